/** A server held by hand: answers by route, and what was asked of it. For `vi.spyOn(api, ...)` in tests of screens. */

import { vi } from 'vitest';
import { api, ApiError } from '../../src/lib/api';

export interface Asked {
  method: string;
  path: string;
  body: unknown;
}
type Answer = unknown | ((body: unknown) => unknown);

/** Each key is "METHOD /path" without a query; a thrown ApiError is a refusal. Unknown routes are 404. */
export function serve(routes: Record<string, Answer>): Asked[] {
  const asked: Asked[] = [];
  const answer = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    asked.push({ method, path, body });
    const found = routes[`${method} ${path}`];
    if (found === undefined) throw new ApiError(404, { code: null, message: `Nothing stands at ${path}.` });
    return structuredClone(typeof found === 'function' ? await (found as (b: unknown) => unknown)(body) : found) as T;
  };
  vi.spyOn(api, 'get').mockImplementation((path) => answer('GET', path));
  vi.spyOn(api, 'post').mockImplementation((path, body) => answer('POST', path, body));
  vi.spyOn(api, 'delete').mockImplementation((path) => answer('DELETE', path));
  vi.spyOn(api, 'call').mockImplementation((route) => answer(...(route.split(' ') as [string, string])) as never);
  return asked;
}

/** What jsdom lacks of dialogs and of a page that scrolls. */
export function mendDom(): void {
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function () {
    this.open = false;
  };
  Element.prototype.scrollIntoView = () => {};
  vi.stubGlobal('scrollTo', () => {});
}

export const task = (kind: string, result: unknown, parts: object = {}) => ({
  id: `dstask-${kind}`,
  object: 'luthier.dataset_task',
  kind,
  status: 'completed',
  created_at: 1,
  finished_at: 2,
  options: {},
  progress: null,
  num_findings: 0,
  result,
  error: null,
  ...parts,
});

export const file = (id: string, parts: object = {}) => ({
  id,
  object: 'file',
  bytes: 3280,
  created_at: 1_795_724_682,
  expires_at: null,
  filename: `${id}.jsonl`,
  purpose: 'fine-tune',
  status: 'processed',
  status_details: null,
  ...parts,
});

/** Who uses a file: so many jobs, the unfinished first. */
export const use = (file_id: string, jobs: number, parts: object = {}) => ({
  object: 'luthier.dataset_use',
  file_id,
  jobs,
  unfinished: 0,
  named: Array.from({ length: Math.min(jobs, 8) }, (_, i) => ({ id: `j${i + 1}`, suffix: null, status: 'succeeded' })),
  ...parts,
});

export const page = (data: object[]) => ({ object: 'list', data, has_more: false, first_id: null, last_id: null });

export const report = (parts: object = {}) => ({
  object: 'luthier.data_report',
  ok: true,
  method: 'supervised',
  format: 'chat',
  num_lines: 20,
  num_faulty_rows: 0,
  num_faults: 0,
  num_warnings: 0,
  by_code: {},
  counts: { longest_line_bytes: 180 },
  error: null,
  findings: [],
  ...parts,
});

export const FAULT = {
  line: 2,
  column: 15,
  path: '',
  code: 'cut_off',
  severity: 'error',
  message: 'Example 2 is not valid JSON: unexpected end of data at byte 15.',
  cure: 'Complete the row; a new line inside a string must be written \\n.',
};

export const preview = (text: string) => ({
  object: 'luthier.row_preview',
  line: 1,
  format: 'chat',
  ok: true,
  max_length: 512,
  sequences: [
    {
      name: 'example',
      num_tokens: 2,
      num_trained: 1,
      num_context: 0,
      num_special: 1,
      num_truncated: 0,
      tokens: [
        { id: 3, text: '<|user|>', bytes: [60], kind: 'special', lost: null, role: '' },
        { id: 9, text, bytes: [66], kind: 'trained', lost: null, role: 'assistant' },
      ],
    },
  ],
});

export const model = (id: string, kind = 'base', parts: object = {}) => ({
  id,
  object: 'model',
  created: 1,
  owned_by: 'system',
  shutdown_date: null,
  luthier: { kind, base: 'luthier-mini', base_revision: null, licence: null, alias_of: null, size_bytes: 17_706_063, ...parts },
});
