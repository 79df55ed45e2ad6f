/**
 * Files and the work on them: storing an upload, and dataset tasks (`/v1/luthier/datasets`) that are asked for until they are over.
 * What it does not: draw, or keep state (`task.svelte.ts`).
 */

import type { Schemas } from '../api/schema';
import type { TokenPart } from '../api/types';
import { ApiError, type Api } from './api';

export type StoredFile = Schemas['File'];
export type DatasetTask = Schemas['DatasetTask'];
export type TaskKind = DatasetTask['kind'];
export type FileUse = Schemas['DatasetUse'];
type Client = Pick<Api, 'get' | 'post' | 'upload'>;

export type Fault = Schemas['Finding'];
export type CheckReport = Schemas['DataReport'];
export type Advice = Schemas['Advice'];
export type DoctorReport = Schemas['DoctorReport'];
export type PreviewToken = Schemas['PreviewToken'];
export type RowPreview = Schemas['RowPreview'];
export type Span = Schemas['Span'];
export type ForecastResult = Schemas['ForecastResult'];
export type Imported = Schemas['Imported'];

const FIRST_WAIT_SECONDS = 1;
const LOOK_MS = 700;
const BY_ROWS = /\.jsonl$/i;
const TO_IMPORT = /\.(csv|tsv|json|parquet)$/i;

/** What an upload came to. */
export interface Stored {
  file: StoredFile;
  /** What was said on the way: how columns were read, why the purpose is another one. */
  notes: string[];
}

/**
 * Do a dataset task and wait for its end. Throws what the API says of a refusal or a failed task; an abort cancels the task on the server.
 */
export async function runTask<T>(
  api: Client,
  kind: TaskKind,
  body: Record<string, unknown>,
  { onprogress, signal, wait = pause }: { onprogress?: (task: DatasetTask) => void; signal?: AbortSignal; wait?: typeof pause } = {},
): Promise<{ task: DatasetTask; result: T }> {
  let task = await api.post<DatasetTask>(`/v1/luthier/datasets/${kind}`, { ...body, wait_seconds: FIRST_WAIT_SECONDS }, signal ? { signal } : {});
  while (task.status === 'queued' || task.status === 'running') {
    onprogress?.(task);
    await wait(LOOK_MS);
    if (signal?.aborted) {
      await api.post(`/v1/luthier/datasets/tasks/${encodeURIComponent(task.id)}/cancel`);
      throw new DOMException('The work was stopped.', 'AbortError');
    }
    task = await api.get<DatasetTask>(`/v1/luthier/datasets/tasks/${encodeURIComponent(task.id)}`);
  }
  if (task.status === 'completed') return { task, result: task.result as T };
  throw new ApiError(200, task.error ?? { code: null, message: `The work was ${task.status}.` });
}

/**
 * Store a file for training. JSONL goes in as `fine-tune`; where a line is no JSON object it is kept as `user_data`, so that its faults can be
 * told. CSV, TSV, JSON and Parquet are stored and then made to a training file by `import`.
 */
export async function storeFile(
  api: Client,
  file: File,
  { progress, signal, onstage }: { progress?: (share: number) => void; signal?: AbortSignal; onstage?: (what: string) => void } = {},
): Promise<Stored> {
  const send = (purpose: string) => {
    const form = new FormData();
    form.set('purpose', purpose);
    form.set('file', file);
    return api.upload<StoredFile>('/v1/files', form, progress, signal);
  };
  if (BY_ROWS.test(file.name)) {
    try {
      return { file: await send('fine-tune'), notes: [] };
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 400 && /JSONL format/.test(error.message))) throw error;
      return { file: await send('user_data'), notes: [error.message, 'It is kept as user_data, so that all its faults can be told and a repaired copy made.'] };
    }
  }
  const stored = await send('user_data');
  if (!TO_IMPORT.test(file.name)) return { file: stored, notes: ['Not a name of a training file (.jsonl, .csv, .tsv, .json, .parquet): kept as user_data.'] };
  onstage?.('Making a training file of its rows');
  const { result } = await runTask<Imported>(api, 'import', { file_id: stored.id }, signal ? { signal } : {});
  const made = await api.get<StoredFile>(`/v1/files/${encodeURIComponent(result.files.training)}`);
  return { file: made, notes: [...(result.notes ?? []), `${result.rows} rows were read; ${result.left_out} left out.`] };
}

/** All files, newest first. */
export async function readFiles(api: Pick<Api, 'get'>): Promise<StoredFile[]> {
  const files: StoredFile[] = [];
  let after: string | null = null;
  for (;;) {
    const page: Schemas['PageOf_File_'] = await api.get('/v1/files', { query: { limit: 1000, after } });
    files.push(...page.data);
    after = page.last_id;
    if (!page.has_more || !after) return files;
  }
}

/** Tokens of a preview as the strip shows them; what is cut off is said. */
export function stripOf(tokens: readonly (Pick<PreviewToken, 'id' | 'text' | 'bytes' | 'lost' | 'role'> & { kind: string })[]): TokenPart[] {
  return tokens.map(({ id, text, bytes, kind, lost, role }) => ({ id, text, bytes, kind: lost ? 'lost' : kind, role: role || null }));
}

/** Rows of the files that were checked lately, by file. */
export function rowsByFile(tasks: readonly DatasetTask[]): Map<string, { lines: number; ok: boolean }> {
  const known = new Map<string, { lines: number; ok: boolean }>();
  for (const task of tasks) {
    const file = task.options.file_id;
    const report = task.result as { num_lines?: number; ok?: boolean } | null;
    if (typeof file === 'string' && task.kind === 'check' && typeof report?.num_lines === 'number' && !known.has(file)) {
      known.set(file, { lines: report.num_lines, ok: Boolean(report.ok) });
    }
  }
  return known;
}

/** Who uses each file, among all jobs that there are; or who uses this one. */
export async function readUses(api: Pick<Api, 'get'>, file?: string): Promise<Map<string, FileUse>> {
  const { data } = await api.get<Schemas['ListOf_DatasetUse_']>('/v1/luthier/datasets/uses', file === undefined ? {} : { query: { file_id: file } });
  return new Map(data.map((use) => [use.file_id, use]));
}

/** The address of all findings of a task as a file. */
export function findingsPath(task: string, format: 'csv' | 'jsonl'): string {
  return `/v1/luthier/datasets/tasks/${encodeURIComponent(task)}/findings?format=${format}`;
}

function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
