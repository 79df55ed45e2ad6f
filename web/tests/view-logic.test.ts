import { describe, expect, it, vi } from 'vitest';
import type { Evaluation, JobEvent, RowLosses } from '../src/api/types';
import { lineOf, placeOf } from '../src/lib/anchor';
import { answersOf, compareFinding, filtered, measures } from '../src/lib/compare';
import { checkFinding, doctorTone, labelBalance, labelFinding, lengthFinding, rowFinding, statisticsOf } from '../src/lib/data-view';
import { taskResult, type DatasetTask, type DoctorReport } from '../src/lib/dataset-tasks';
import { changeOf, knownPoints, lineFinding, lineOver, ordered, promptsFinding, promptStories } from '../src/lib/examples';
import { expected } from '../src/lib/expect';
import { chosenEvents, eventTable, everything, joined, stepTable } from '../src/lib/log';
import { pointTo } from '../src/lib/point';
import { grouped, sampleOf, stageTimes, stoppedSentence, timeFinding } from '../src/lib/story';
import { savedJob } from './fixtures/saved.mjs';

const job = savedJob();
const plain = (text: string) => text.replaceAll('\u202f', ' ');

describe('what an empty place says', () => {
  it('tells what comes and when, or why it never will', () => {
    const row = { status: 'running' as const, eta_seconds: 40, queue_place: null };
    expect(plain(expected(row, 'after each epoch', 'never'))).toBe('It comes after each epoch. The job takes about 40 s more.');
    expect(expected({ ...row, status: 'queued', queue_place: 3 }, 'later', 'never')).toBe('It comes later. The job is number 3 in the queue.');
    expect(expected({ ...row, status: 'succeeded' }, 'later', 'There is none.')).toBe('There is none.');
    expect(expected({ ...row, status: 'failed' }, 'later', 'never')).toContain('failed before it came this far');
    expect(expected({ ...row, status: 'paused' }, 'later', 'never')).toContain('paused');
  });
});

describe('places on the page', () => {
  it('are ours on a server and fragments in a saved page', () => {
    expect(pointTo({ row: job.row, connection: 'live' }, 'training', 'epoch-3')).toBe('/ui/jobs/ftjob-abc/training#epoch-3');
    expect(pointTo({ row: job.row, connection: 'static' }, 'training', 'epoch-3')).toBe('#/training/epoch-3');
    expect(['#line-17', '#/data/line-17', '#sample-3', '#rows', '', '#/story'].map((hash) => lineOf(placeOf(hash)))).toEqual([17, 17, 3, null, null, null]);
    expect(pointTo({ row: job.row, connection: 'live' }, 'nonsense')).toBe('/ui/jobs/ftjob-abc');
  });
});

describe('story', () => {
  it('names the longest stage', () => {
    expect(plain(timeFinding(stageTimes(job.view.stages)))).toBe('Data collection took 250 ms, 20 % of the 1.3 s of the five stages.');
  });
  it('takes a sample as it is, of any form', () => {
    expect(sampleOf({ line: 2, messages: [{ role: 'user', content: 'Salut' }], other: 'Non' })).toEqual({
      form: 'pair', line: 2, parts: [{ label: 'user', text: 'Salut' }, { label: 'Other answer', text: 'Non' }],
    });
    expect(sampleOf({ losses: [] })).toEqual({ form: 'none' });
    expect(sampleOf({})).toEqual({ form: 'none' });
  });
});

describe('data', () => {
  it('counts out of the forecast, and nothing without one', () => {
    expect(statisticsOf(job.view)).toMatchObject({ examples: 16, tokens: 400, trained: 80, longest: 40 });
    expect(statisticsOf({ ...job.view, forecast: null })).toBeNull();
  });
  it('says where half of the lengths lie', () => {
    const lengths = [{ shortest: 13, longest: 17, steps: 50 }, { shortest: 17, longest: 18, steps: 50 }, { shortest: 18, longest: 25, steps: 98 }];
    expect(plain(lengthFinding(lengths))).toBe('51 % of the steps read rows of at most 18 tokens; the longest row has 25.');
    expect(lengthFinding([{ shortest: 18, longest: 40, steps: 2 }])).toBe('The rows have 18 to 40 tokens.');
  });
  it('says what is trained in each of a pair’s answers', () => {
    const one = { num_trained: 2, num_tokens: 4, num_context: 2, num_special: 0, num_truncated: 0, num_trained_lost: 0, trained_share: 0.5, num_shared: 2, tokens: [] };
    const told = rowFinding({ line: 4, max_length: 9, sequences: [{ ...one, name: 'preferred' }, { ...one, name: 'non_preferred' }] });
    expect(plain(told)).toBe('Line 4, preferred answer: 2 of 4 tokens are trained (50 %). Line 4, non-preferred answer: 2 of 4 tokens are trained (50 %).');
  });
  it('counts faults and warnings', () => {
    const report = { file: 'a.jsonl', num_lines: 5, num_faulty_rows: 0, num_faults: 0, num_warnings: 2 };
    expect(checkFinding(report)).toBe('No fault and 2 warnings in the 5 lines of a.jsonl.');
    expect(checkFinding({ ...report, num_warnings: 0 })).toBe('No fault in the 5 lines of a.jsonl.');
  });
  it('orders labels by their rows', () => {
    const report: Pick<DoctorReport, 'statistics'> = { statistics: { labels: { ham: 1, spam: 3 } } };
    const labels = labelBalance(report)!;
    expect(labels[0]).toEqual({ label: 'spam', rows: 3 });
    expect(plain(labelFinding(labels))).toBe('“spam” is the answer of 75 % of the labelled rows, “ham” of 25 %.');
    expect(labelBalance({ statistics: {} })).toBeNull();
    expect(doctorTone({ num_serious: 0, findings: [{ weight: 'information' }] })).toBe('ok');
  });
  it('waits for a task, and throws its own error', async () => {
    const task = (status: DatasetTask<unknown>['status'], result: unknown): DatasetTask<unknown> => ({ id: 'dstask-1', object: 'luthier.dataset_task', kind: 'check', status, created_at: 1, finished_at: null, options: {}, progress: null, num_findings: 0, result, error: status === 'failed' ? { code: 'not_found', message: 'no such file', param: null } : null });
    const get = vi.fn().mockResolvedValueOnce(task('running', null)).mockResolvedValueOnce(task('completed', { ok: true }));
    const ask = { post: vi.fn().mockResolvedValue(task('queued', null)), get };
    expect(await taskResult(ask, 'check', {}, { pause: () => Promise.resolve() })).toEqual({ ok: true });
    expect(get).toHaveBeenCalledTimes(2);
    await expect(taskResult({ ...ask, post: vi.fn().mockResolvedValue(task('failed', null)) }, 'check', {})).rejects.toThrow('no such file');
  });
});

describe('examples', () => {
  const page: RowLosses = { ...job.rowLosses! };
  it('orders rows, those without a number last', () => {
    const rows = [...page.data, { ...page.data[0]!, line: 9, tokens: 1, loss: null, first_loss: null }];
    expect(ordered(rows, 'loss').map((row) => row.line)).toEqual([3, 1, 9]);
    expect(ordered(rows, 'line').map((row) => row.line)).toEqual([1, 3, 9]);
    expect(ordered(rows, 'fall').map((row) => row.line)).toEqual([3, 1, 9]);
    expect(changeOf(rows[2]!)).toBeNull();
    expect(knownPoints(page.data[0]!, page)).toEqual([{ epoch: 1, loss: 3.25 }, { epoch: 2, loss: 2.5 }]);
  });
  it('follows a line over the epochs, past lines that were left out', async () => {
    const ask = vi.fn(({ epoch, after }: { epoch: number; after?: number }) => {
      if (after === 4) return Promise.reject(Object.assign(new Error('no'), { status: 404 }));
      return Promise.resolve({ ...page, data: [{ ...page.data[0]!, line: 5, tokens: 1, loss: 1 / epoch }] });
    });
    const points = await lineOver(ask, 5, [1, 2]);
    expect(points).toEqual([{ epoch: 1, loss: 1 }, { epoch: 2, loss: 0.5 }]);
    expect(lineFinding(5, points)).toBe('The loss of line 5 fell from 1.00 after epoch 1 to 0.500 after epoch 2.');
    await expect(lineOver(() => Promise.reject(new Error('down')), 5, [1])).rejects.toThrow('down');
  });
  it('tells the story of each fixed prompt', () => {
    const stories = promptStories(job.view);
    expect(stories[0]?.answers.map((one) => [one.epoch, one.changed])).toEqual([[0, false], [1, false], [2, true]]);
    expect(promptsFinding(stories)).toBe('0 of 1 prompt is answered exactly as expected after epoch 2, 0 by the base.');
  });
});

describe('compare', () => {
  const report: Evaluation = { ...job.view.evaluation!, samples: [{ ...job.view.evaluation!.samples[0]!, line: 3, verdict: 'better' }, { prompt: 'b', expected: 'Non', base: 'Non', tuned: 'Oui', verdict: 'worse' }] };
  it('filters by verdict and word', () => {
    const answers = answersOf(report);
    expect(answers[0]).toMatchObject({ line: 3, tunedRight: true, baseRight: false, verdict: 'better', baseLoss: null });
    expect(filtered(answers, 'worse', '')).toHaveLength(1);
    expect(filtered(answers, null, 'FRENCH').map((one) => one.line)).toEqual([3]);
  });
  it('says the counts and every measure', () => {
    expect(compareFinding(report)).toBe('The tuned model is better on 3 of 4 held-out rows, worse on 0, the same on 1. Their loss went from 3.50 to 0.500.');
    expect(measures(report).find((one) => one.name.startsWith('answers'))).toMatchObject({ base: '0 of 4', tuned: '3 of 4', better: true });
    expect(measures({ ...report, preference: { base: { prefers: 0.5 }, tuned: { prefers: 0.75 } } }).at(-1)).toMatchObject({ tuned: '75\u202f%', better: true });
  });
});

describe('events', () => {
  const event = (id: string, level: JobEvent['level'], type: JobEvent['type']): JobEvent => ({ id, object: 'fine_tuning.job.event', created_at: 1, level, message: `${id} said`, type, data: {} });
  const events = [event('a', 'info', 'message'), event('b', 'info', 'metrics'), event('c', 'warn', 'message')];
  it('chooses by kind and word, the newest first', () => {
    expect(chosenEvents(events, 'messages', '').map((one) => one.id)).toEqual(['c', 'a']);
    expect(chosenEvents(events, 'trouble', '').map((one) => one.id)).toEqual(['c']);
    expect(chosenEvents(events, 'all', 'B SAID').map((one) => one.id)).toEqual(['b']);
    expect(joined(events.slice(0, 2), events.slice(1)).map((one) => one.id)).toEqual(['a', 'b', 'c']);
    expect(eventTable(events).rows[0]).toEqual([1, 'info', 'a said']);
  });
  it('lays held-out numbers beside the steps they belong to', () => {
    const table = stepTable(job.metrics!);
    expect(table.rows.map((row) => [row[0], row[7]])).toEqual([[1, null], [2, 1.5], [3, null], [4, 1]]);
    expect(JSON.parse(everything(job)).trace.run).toBe('ftjob-abc');
  });
});

describe('a job that ended early', () => {
  it('says in which stage, and after which step', () => {
    expect(stoppedSentence({ status: 'failed', step: null, total_steps: null })).toBe('The job failed in this stage.');
    expect(stoppedSentence({ status: 'cancelled', step: 10, total_steps: 500 })).toBe('The job was cancelled in this stage, after step 10 of 500.');
  });
  it('tells faults that follow each other together', () => {
    const notice = (level: string, message: string) => ({ level, message }) as never;
    expect(grouped([notice('error', 'a'), notice('error', 'b'), notice('warn', 'c')])).toEqual([
      { level: 'error', messages: ['a', 'b'] },
      { level: 'warn', messages: ['c'] },
    ]);
  });
});
