import { describe, expect, it, vi } from 'vitest';
import { ApiError } from '../src/lib/api';
import { findingsPath, readFiles, readUses, rowsByFile, runTask, storeFile, stripOf } from '../src/lib/datasets';
import { familiesOf, means, touched } from '../src/lib/modeltree';
import type { ModelRow } from '../src/api/types';
import { file, page, preview, task, use } from './support/server';

const wait = () => Promise.resolve();

describe('a dataset task', () => {
  it('is asked for until it is over, and tells how far it is', async () => {
    const running = task('check', null, { status: 'running', progress: { done: 5, total: 20, unit: 'rows' } });
    const api = { post: vi.fn().mockResolvedValue(running), get: vi.fn().mockResolvedValueOnce(running).mockResolvedValue(task('check', { ok: true })), upload: vi.fn() };
    const seen: unknown[] = [];
    const { result } = await runTask(api, 'check', { file_id: 'f' }, { wait, onprogress: (t) => seen.push(t.progress?.done) });
    expect(result).toEqual({ ok: true });
    expect(seen).toEqual([5, 5]);
    expect(api.post).toHaveBeenCalledWith('/v1/luthier/datasets/check', { file_id: 'f', wait_seconds: 1 }, {});
  });

  it('that failed says why, in the words of the API', async () => {
    const failed = task('fix', null, { status: 'failed', error: { code: 'invalid_rows', message: 'Row 3 is broken.', param: null } });
    const api = { post: vi.fn().mockResolvedValue(failed), get: vi.fn(), upload: vi.fn() };
    await expect(runTask(api, 'fix', {})).rejects.toThrow('Row 3 is broken.');
  });

  it('is cancelled on the server when it is stopped here', async () => {
    const stop = new AbortController();
    const api = { post: vi.fn().mockResolvedValue(task('doctor', null, { status: 'queued' })), get: vi.fn(), upload: vi.fn() };
    const run = runTask(api, 'doctor', {}, { signal: stop.signal, wait: async () => stop.abort() });
    await expect(run).rejects.toThrow('stopped');
    expect(api.post).toHaveBeenLastCalledWith('/v1/luthier/datasets/tasks/dstask-doctor/cancel');
  });
});

describe('an upload', () => {
  const refusal = new ApiError(400, { code: null, message: 'Expected file to have JSONL format, where every line is a JSON dictionary. Line 2 is not a dictionary.' });
  const purposes = (upload: ReturnType<typeof vi.fn>) => upload.mock.calls.map((call) => (call[1] as FormData).get('purpose'));

  it('of rows is for fine-tuning', async () => {
    const upload = vi.fn().mockResolvedValue(file('file-a'));
    const { file: stored, notes } = await storeFile({ upload, get: vi.fn(), post: vi.fn() }, new File(['{}'], 'a.jsonl'));
    expect([stored.id, notes, purposes(upload)]).toEqual(['file-a', [], ['fine-tune']]);
  });

  it('with a broken line is kept so that its faults can be told', async () => {
    const upload = vi.fn().mockRejectedValueOnce(refusal).mockResolvedValue(file('file-b', { purpose: 'user_data' }));
    const { notes } = await storeFile({ upload, get: vi.fn(), post: vi.fn() }, new File(['x'], 'a.jsonl'));
    expect(purposes(upload)).toEqual(['fine-tune', 'user_data']);
    expect(notes[0]).toContain('Line 2 is not a dictionary');
  });

  it('that the server refuses for another reason is refused', async () => {
    const upload = vi.fn().mockRejectedValue(new ApiError(413, { code: null, message: 'Too large.' }));
    await expect(storeFile({ upload, get: vi.fn(), post: vi.fn() }, new File(['x'], 'a.jsonl'))).rejects.toThrow('Too large.');
    expect(upload).toHaveBeenCalledOnce();
  });

  it('of a table becomes a training file', async () => {
    const upload = vi.fn().mockResolvedValue(file('file-csv'));
    const post = vi.fn().mockResolvedValue(task('import', { rows: 2, left_out: 1, files: { training: 'file-t' }, notes: ['columns: q -> prompt'] }));
    const get = vi.fn().mockResolvedValue(file('file-t'));
    const { file: made, notes } = await storeFile({ upload, get, post }, new File(['a,b'], 'rows.CSV'));
    expect(made.id).toBe('file-t');
    expect(notes).toEqual(['columns: q -> prompt', '2 rows were read; 1 left out.']);
    expect(purposes(upload)).toEqual(['user_data']);
  });
});

describe('what is known of files', () => {
  it('is read to the last page', async () => {
    const get = vi
      .fn()
      .mockResolvedValueOnce({ ...page([file('a')]), has_more: true, last_id: 'a' })
      .mockResolvedValue(page([file('b')]));
    expect((await readFiles({ get })).map((one) => one.id)).toEqual(['a', 'b']);
    expect(get.mock.calls[1]![1].query.after).toBe('a');
  });

  it('comes from the newest check and from all jobs', async () => {
    const checks = [task('check', { num_lines: 9, ok: false }, { options: { file_id: 'f' } }), task('check', { num_lines: 8, ok: true }, { options: { file_id: 'f' } })];
    expect(rowsByFile(checks as never).get('f')).toEqual({ lines: 9, ok: false });
    const get = vi.fn().mockResolvedValue(page([use('f', 2), use('g', 1)]));
    const uses = await readUses({ get });
    expect([...uses.keys()]).toEqual(['f', 'g']);
    expect(uses.get('f')!.jobs).toBe(2);
    await readUses({ get }, 'f');
    expect(get.mock.calls).toEqual([
      ['/v1/luthier/datasets/uses', {}],
      ['/v1/luthier/datasets/uses', { query: { file_id: 'f' } }],
    ]);
  });

  it('marks tokens that are cut off', () => {
    const tokens = preview('Bonjour').sequences[0]!.tokens.map((token, i) => ({ ...token, lost: i ? 'max_length' : null }));
    expect(stripOf(tokens).map((token) => token.kind)).toEqual(['special', 'lost']);
    expect(findingsPath('a/b', 'csv')).toBe('/v1/luthier/datasets/tasks/a%2Fb/findings?format=csv');
  });
});

describe('the tree of models', () => {
  const row = (id: string, parts: Partial<ModelRow> = {}): ModelRow => ({
    object: 'luthier.model', id, kind: 'adapter', base: 'luthier-mini', created_at: 1, owned_by: 'luthier', job_id: 'j', step: null, bytes: 5, licence: null,
    runs_on: null, source: null, aliases: [], checkpoints: [], deletable: true, dependents: { aliases: [], jobs: [] }, ...parts,
  });

  it('puts checkpoints under their job’s model, the latest first', () => {
    const { bases, tuned } = familiesOf([row('c20', { step: 20 }), row('head'), row('c40', { step: 40 }), row('mini', { kind: 'base', job_id: null }), row('lone', { step: 9, job_id: 'k' })]);
    expect(bases.map((one) => one.id)).toEqual(['mini']);
    expect(tuned[0]!.head!.id).toBe('head');
    expect(tuned[0]!.checkpoints.map((one) => one.id)).toEqual(['c40', 'c20']);
    expect(tuned[1]).toMatchObject({ head: null, job: 'k' });
  });

  it('says what a deletion touches', () => {
    const effect = touched(row('m', { dependents: { aliases: ['prod'], jobs: ['ftjob-1'] }, checkpoints: ['a', 'b'] }));
    expect(effect.blocked).toEqual(['The alias prod stands for it: move or delete the alias first.']);
    expect(effect.told).toEqual(['The job ftjob-1 is not over and goes on from it.', 'Its 2 checkpoints stay; each is deleted by itself.']);
  });

  it('is searched by alias too', () => {
    expect(means(row('m', { aliases: ['Support@prod'] }), ' support@')).toBe(true);
    expect(means(row('m'), 'zzz')).toBe(false);
  });
});
