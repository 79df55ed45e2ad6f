/** Work on a data set that the server does for a page: ask for it, then ask until it is done. Pure but for the asking, which is handed in. */

import type { ErrorBody } from '../api/types';

export interface DatasetTask<T> {
  id: string;
  object: 'luthier.dataset_task';
  kind: string;
  status: 'queued' | 'running' | 'completed' | 'failed' | 'cancelled' | (string & {});
  progress: { done: number; total: number; unit: string } | null;
  num_findings: number;
  result: T | null;
  error: ErrorBody | null;
}

/** A token of a row as training reads it; `truncated`: past the length limit, the model never sees it. */
export interface PreviewToken {
  id: number;
  text: string;
  bytes: number[];
  kind: 'trained' | 'context' | 'special' | 'truncated';
  role: string;
  message: number;
}

export interface PreviewSequence {
  name: string;
  num_tokens: number;
  num_trained: number;
  num_context: number;
  num_special: number;
  num_truncated: number;
  num_trained_lost: number;
  trained_share: number;
  num_shared: number;
  tokens: PreviewToken[];
}

/** `luthier.row_preview`. */
export interface RowPreview {
  line: number;
  format: string;
  ok: boolean;
  max_length: number;
  sequences: PreviewSequence[];
  problems: { code: string; severity: string; message: string }[];
}

export interface Finding {
  line: number | null;
  column: number | null;
  code: string;
  severity: string;
  message: string;
  cure: string;
}

/** `luthier.data_report`. */
export interface DataReport {
  file: string;
  bytes: number;
  ok: boolean;
  format: string | null;
  num_lines: number;
  num_faulty_rows: number;
  num_faults: number;
  num_warnings: number;
  by_code: Record<string, { count: number; first_line: number }>;
  counts: Record<string, unknown>;
  findings: Finding[];
}

/** `luthier.doctor_report`. */
export interface DoctorReport {
  file: string;
  num_rows: number;
  num_findings: number;
  num_serious: number;
  findings: { code: string; weight: string; count: number; lines: number[]; finding: string; why: string; cure: string; examples: string[] }[];
  skipped: Record<string, string>;
  statistics: Record<string, unknown> & { labels?: Record<string, number> };
}

export interface Asking {
  post<T>(path: string, body: unknown): Promise<T>;
  get<T>(path: string): Promise<T>;
}

const DONE = ['completed', 'failed', 'cancelled'];
const PAUSE_MS = 1000;

/** The result of a task, when it is done; its own error where it failed. `alive` false: nobody waits any more. */
export async function taskResult<T>(
  ask: Asking,
  kind: string,
  body: Record<string, unknown>,
  { alive = () => true, pause = (ms: number) => new Promise<void>((go) => setTimeout(go, ms)) } = {},
): Promise<T> {
  let task = await ask.post<DatasetTask<T>>(`/v1/luthier/datasets/${kind}`, body);
  while (!DONE.includes(task.status)) {
    await pause(PAUSE_MS);
    if (!alive()) throw new DOMException('Nobody waits for it any more.', 'AbortError');
    task = await ask.get<DatasetTask<T>>(`/v1/luthier/datasets/tasks/${encodeURIComponent(task.id)}`);
  }
  if (task.result === null || task.status !== 'completed') throw new Error(task.error?.message ?? `The work ended as ${task.status}.`);
  return task.result;
}
