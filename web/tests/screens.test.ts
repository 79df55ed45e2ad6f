// @vitest-environment jsdom
import { flushSync } from 'svelte';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Schemas } from '../src/api/schema';
import type { ModelRow, Session, SystemState } from '../src/api/types';
import { api, ApiError } from '../src/lib/api';
import { router } from '../src/lib/router.svelte';
import { session } from '../src/lib/session.svelte';
import DataSet from '../src/screens/DataSet.svelte';
import DataSets from '../src/screens/DataSets.svelte';
import Jobs from '../src/screens/Jobs.svelte';
import Models from '../src/screens/Models.svelte';
import NewJob from '../src/screens/NewJob.svelte';
import Playground from '../src/screens/Playground.svelte';
import System from '../src/screens/System.svelte';
import { clear, draw, goldenJob } from './support/page';
import { FAULT, file, mendDom, model, page, preview, report, serve, task, use } from './support/server';

beforeAll(mendDom);
beforeEach(() => router.go('/ui/', { replace: true }));
afterEach(() => {
  clear();
  vi.restoreAllMocks();
});

const button = (root: ParentNode, name: string) => [...root.querySelectorAll('button')].find((b) => b.textContent!.trim().startsWith(name))!;
const text = (root: ParentNode & { textContent: string | null }) => root.textContent!.replace(/\s+/g, ' ');
const settled = (root: HTMLElement, words: string) => vi.waitFor(() => (flushSync(), expect(text(root)).toContain(words)), 3000);
function type(field: HTMLInputElement | HTMLTextAreaElement, value: string) {
  field.value = value;
  field.dispatchEvent(new Event('input', { bubbles: true }));
  flushSync();
}

const FORECAST = {
  model: 'luthier-mini', base: 'luthier-mini', method: 'lora', fits: true, refusal: null, cures: [], truncated: 0, skipped: 0, decisions: [], costs: null,
  forecast: {
    basis: 'formula', examples: 20, n_epochs: 5, batch_size: 1, steps_per_epoch: 20, total_steps: 100, tokens_per_epoch: 448, trained_per_epoch: 86, tokens: 2240, longest: 25,
    seconds: { low: 5, likely: 8, high: 18 }, parts: [], peak_bytes: { low: 4e8, likely: 5e8, high: 6e8 }, available_bytes: 2e10,
  },
};
const BASICS = {
  'GET /v1/files': page([file('file-a'), file('file-b')]),
  'GET /v1/models': { object: 'list', data: [model('luthier-mini'), model('ft:french', 'adapter')] },
  'POST /v1/luthier/datasets/check': task('check', report()),
  'POST /v1/luthier/datasets/preview': task('preview', preview('Bonjour')),
  'POST /v1/luthier/datasets/forecast': task('forecast', FORECAST),
};

describe('New job', () => {
  it('leads from a file over its report, tokens and forecast to the job', async () => {
    router.go('/ui/new?training=file-a&o.rank=8', { replace: true });
    const asked = serve({ ...BASICS, 'POST /v1/fine_tuning/jobs': { id: 'ftjob-1' } });
    const root = draw(NewJob, {});
    await settled(root, '20 rows, no fault.');
    await settled(root, 'Bonjour');
    await settled(root, 'about 10 s');
    expect(text(root)).toContain('5 epochs of 20');
    // The base is chosen by itself and stands in the address.
    expect(router.url.searchParams.get('model')).toBe('luthier-mini');
    expect(root.querySelector('pre')!.textContent).toContain('extra_body={"luthier": {"rank": 8}},');
    button(root, 'Start the job').click();
    await vi.waitFor(() => expect(router.url.pathname).toBe('/ui/jobs/ftjob-1'));
    expect(asked.find((one) => one.path === '/v1/fine_tuning/jobs')!.body).toEqual({ model: 'luthier-mini', training_file: 'file-a', luthier: { rank: 8 } });
  });

  it('shows every fault with its cure, forecasts and starts nothing, and repairs', async () => {
    router.go('/ui/new?training=file-bad&model=luthier-mini', { replace: true });
    const asked = serve({
      ...BASICS,
      'POST /v1/luthier/datasets/check': (body: unknown) =>
        (body as { file_id: string }).file_id === 'file-bad' ? task('check', report({ ok: false, num_faults: 1, num_faulty_rows: 1, findings: [FAULT] })) : task('check', report()),
      'POST /v1/luthier/datasets/fix': task('fix', { changed_lines: 1, still_broken: { count: 0 }, files: { repaired: 'file-good' } }),
      'GET /v1/files/file-good': file('file-good'),
    });
    const root = draw(NewJob, {});
    await settled(root, FAULT.message);
    expect(text(root)).toContain(FAULT.cure);
    expect(root.querySelector('#line-2')!.textContent).toContain('column 15');
    button(root, 'Start the job').click();
    flushSync();
    expect(text(root)).toContain('A file has faults');
    expect(asked.some((one) => /forecast|fine_tuning/.test(one.path))).toBe(false);
    button(root, 'Make a repaired copy').click();
    await vi.waitFor(() => expect(router.url.searchParams.get('training')).toBe('file-good'));
    await settled(root, '20 rows, no fault.');
  });

  it('says the server’s refusal in its own words', async () => {
    router.go('/ui/new?training=file-a&model=luthier-mini', { replace: true });
    const refuse = () => Promise.reject(new ApiError(400, { code: 'invalid_value', message: "Invalid 'suffix'." }, 'req_1'));
    serve({ ...BASICS, 'POST /v1/fine_tuning/jobs': refuse });
    const root = draw(NewJob, {});
    await settled(root, 'no fault');
    button(root, 'Start the job').click();
    await settled(root, "Invalid 'suffix'.(req_1)");
  });

  it('keeps the draft in the address as it is typed', async () => {
    serve(BASICS);
    const root = draw(NewJob, {});
    await settled(root, 'luthier-mini');
    type(root.querySelector('input[aria-label=Epochs]')!, '99');
    expect(router.url.searchParams.get('n_epochs')).toBe('99');
    expect(text(root)).toContain('Epochs must lie between 1 and 50.');
  });
});

describe('Data sets', () => {
  const known = {
    'GET /v1/luthier/datasets/tasks': page([task('check', { num_lines: 20, ok: true }, { options: { file_id: 'file-a' } })]),
    'GET /v1/luthier/datasets/uses': page([use('file-a', 3, { unfinished: 1, named: [{ id: 'j1', suffix: 'french', status: 'running' }, ...use('', 2).named] })]),
  };

  it('lists files with rows and the jobs that use them, and deletes after it said what depends on one', async () => {
    const asked = serve({ ...BASICS, ...known, 'DELETE /v1/files/file-a': { deleted: true } });
    const root = draw(DataSets, {});
    await settled(root, 'french');
    expect([...root.querySelectorAll('li.card')].map((line) => /20 ✓ sound/.test(text(line as HTMLElement)))).toEqual([true, false]);
    button(root.querySelector('li.card')!, 'Delete').click();
    flushSync();
    expect(text(root.querySelector('dialog')!)).toContain('1 job that is not over uses it: french (running) 2 jobs that are over used it');
    button(root, 'Delete the file').click();
    await vi.waitFor(() => (flushSync(), expect(root.querySelectorAll('li.card')).toHaveLength(1)));
    expect(asked.at(-1)).toMatchObject({ method: 'DELETE', path: '/v1/files/file-a' });
  });

  it('teaches where there is no file', async () => {
    serve({ ...BASICS, ...known, 'GET /v1/files': page([]) });
    await settled(draw(DataSets, {}), 'one example on each line');
  });

  it('says that it does not know who uses a file', async () => {
    serve({ 'GET /v1/files': BASICS['GET /v1/files'] });
    const root = draw(DataSets, {});
    await settled(root, 'Which jobs use which file is not known');
    expect(root.querySelectorAll('li.card')).toHaveLength(2);
  });
});

describe('one data set', () => {
  const DOCTOR = {
    num_rows: 20, format: 'chat', num_findings: 1, num_serious: 0, checks: ['exact_duplicate'], skipped: { language_mix: 'too short' },
    statistics: { losses: { model: 'luthier-mini', num_measured: 20, num_tokens: 86, accuracy: 0.186, loss: { min: 2.75, p05: 3, p25: 4, median: 5.83, p75: 7, p95: 9, max: 9.5, mean: 6 } } },
    findings: [{ code: 'exact_duplicate', weight: 'worth_a_look', count: 1, lines: [20], finding: '1 row repeats.', why: 'It weighs more.', cure: 'Keep one.', examples: ['<b>x</b>'], measured_on: null }],
  };

  it('shows the doctor’s findings with why and cure, the base’s losses, and the tokens of a row it names', async () => {
    const asked = serve({ ...BASICS, 'GET /v1/files/file-a': file('file-a'), 'GET /v1/luthier/datasets/uses': page([use('file-a', 700)]), 'POST /v1/luthier/datasets/doctor': task('doctor', DOCTOR, { num_findings: 1 }) });
    const root = draw(DataSet, { file: 'file-a' });
    await settled(root, 'Bonjour');
    expect(text(root)).toContain('and 695 more');
    button(root, 'Examine, with the base’s losses').click();
    await settled(root, '1 row repeats.');
    expect(text(root)).toContain('Why: It weighs more.');
    expect(text(root)).toContain('What to do: Keep one.');
    expect(text(root)).toContain('median loss of a row 5.83 nats');
    expect(root.querySelector('b')).toBeNull();
    button(root.querySelector('.lines')!, '20').click();
    await vi.waitFor(() => expect(asked.filter((one) => one.path.endsWith('preview')).at(-1)!.body).toMatchObject({ line: 20 }));
    expect(router.url.searchParams.get('row')).toBe('20');
  });

  it('splits and leads to the new files', async () => {
    serve({ ...BASICS, 'GET /v1/files/file-a': file('file-a'), 'POST /v1/luthier/datasets/split': task('split', { files: { training: 'file-t', validation: 'file-v' } }), 'GET /v1/files/file-t': file('file-t'), 'GET /v1/files/file-v': file('file-v') });
    const root = draw(DataSet, { file: 'file-a' });
    await settled(root, 'Bonjour');
    button(root, 'Split').click();
    await settled(root, 'validation: file-v.jsonl');
    expect(root.querySelector('a[href="/ui/data/file-t"]')).not.toBeNull();
  });

  it('says that there is no such file', async () => {
    serve({});
    await settled(draw(DataSet, { file: 'file-x' }), 'Nothing stands at /v1/files/file-x.');
  });
});

describe('Playground', () => {
  function streamed(words: Record<string, string>) {
    return vi.spyOn(api, 'raw').mockImplementation((_method, _path, options) => {
      const word = words[(options!.body as { model: string }).model]!;
      const chunk = {
        choices: [{ delta: { content: word }, finish_reason: 'stop', logprobs: { content: [{ token: word, logprob: Math.log(0.5), bytes: [1], top_logprobs: [{ token: word, logprob: Math.log(0.5), bytes: [1] }] }] } }],
      };
      return Promise.resolve(new Response(`data: ${JSON.stringify(chunk)}\n\ndata: [DONE]\n\n`));
    });
  }

  it('asks a tuned model beside its base, and shows what else a token could have been', async () => {
    serve(BASICS);
    const raw = streamed({ 'ft:french': '<i>Merci</i>', 'luthier-mini': 'Thanks' });
    const root = draw(Playground, {});
    await vi.waitFor(() => (flushSync(), expect(root.querySelectorAll('.answer')).toHaveLength(2)));
    expect(router.url.search).toBe('?a=ft%3Afrench&b=luthier-mini');
    type(root.querySelectorAll('textarea')[1]!, 'Thank you');
    button(root, 'Ask both').click();
    await settled(root, 'Thanks');
    expect(text(root)).toContain('<i>Merci</i>');
    expect(root.querySelector('i')).toBeNull();
    expect(raw.mock.calls.map((call) => (call[2]!.body as { model: string }).model)).toEqual(['ft:french', 'luthier-mini']);
    expect(router.url.searchParams.get('prompt')).toBe('Thank you');
    button(root, 'Token probabilities').click();
    flushSync();
    const token = root.querySelector<HTMLButtonElement>('button.token')!;
    expect(token.title.replace(/\s/g, ' ')).toContain('probability 50.0 %');
    token.click();
    flushSync();
    expect(root.querySelector('li.marked')!.textContent).toContain('50.0');
  });

  it('says why in the words of the trace, or why it cannot', async () => {
    const trace = {
      object: 'luthier.prediction_trace', model: 'ft:french', base: 'luthier-mini', prompt_tokens: [], tuned: { answer: 'Merci', finish_reason: 'stop', path: [] },
      base_side: { answer: 'x', finish_reason: 'stop', path: [] }, forced: null, embedding: null, layers: null, adapter: [], attention: null, seconds: 0.2,
      missing: [{ tier: 'B', reason: 'This engine does not show its layers.' }],
      nearest: [{ line: 2, similarity: 0.91, shared: [], prompt: 'Thank you', answer: 'Merci' }],
      why: { most_shifted: [{ index: 0, id: 1, text: 'Merci', tuned_logprob: Math.log(0.5), base_logprob: -9, change: 8.3 }] },
    };
    router.go('/ui/playground?a=ft:french&b=none&prompt=Thank', { replace: true });
    const asked = serve({ ...BASICS, 'POST /v1/luthier/trace': trace });
    streamed({ 'ft:french': 'Merci' });
    const root = draw(Playground, {});
    await vi.waitFor(() => (flushSync(), expect(root.querySelectorAll('.answer')).toHaveLength(1)));
    button(root, 'Ask').click();
    await vi.waitFor(() => (flushSync(), expect(button(root, 'Why did it say that?')).toBeDefined()));
    button(root, 'Why did it say that?').click();
    await settled(root, 'similar, not proof');
    expect(text(root)).toContain('This engine does not show its layers.');
    expect(text(root)).toContain('+8.30');
    expect(asked.at(-1)!.body).toMatchObject({ model: 'ft:french', answer: 'Merci', messages: [{ role: 'user', content: 'Thank' }] });
  });
});

describe('Models', () => {
  const row = (id: string, parts: Partial<ModelRow> = {}): ModelRow => ({
    object: 'luthier.model', id, kind: 'adapter', base: 'luthier-mini', created_at: 1, owned_by: 'luthier', job_id: 'ftjob-1', step: null, bytes: 2_539_635, licence: null,
    runs_on: null, source: null, aliases: [], checkpoints: [], deletable: true, dependents: { aliases: [], jobs: [] }, ...parts,
  });
  const alias: Schemas['Alias'] = { id: 'prod', object: 'luthier.alias', target: 'ft:a', default_target: null, set_in: 'database', created_at: 1, changed_at: 1, changed_by: 'k' };
  const rows = [row('ft:a', { aliases: ['prod'], checkpoints: ['ft:a:ckpt'], dependents: { aliases: ['prod'], jobs: [] } }), row('ft:a:ckpt', { step: 20 }), row('luthier-mini', { kind: 'base', job_id: null })];
  const served = { 'GET /v1/luthier/models': { object: 'list', data: rows }, 'GET /v1/luthier/aliases': { object: 'list', data: [alias] } };

  it('names what depends on a model before it is deleted', async () => {
    serve({ ...served, 'DELETE /v1/models/ft%3Aa': () => Promise.reject(new ApiError(400, { code: 'model_has_alias', message: 'The alias `prod` stands for it.' })) });
    const root = draw(Models, {});
    await settled(root, '1 checkpoint');
    expect(root.querySelector('a[href^="/ui/playground?a=ft%3Aa&b=luthier-mini"]')).not.toBeNull();
    button(root, 'Delete').click();
    flushSync();
    expect(text(root.querySelector('dialog')!)).toContain('The alias prod stands for it: move or delete the alias first.');
    button(root, 'Delete the model').click();
    await settled(root, 'The alias `prod` stands for it.');
  });

  it('moves an alias that is there, and makes one that is not', async () => {
    const asked = serve({ ...served, 'POST /v1/luthier/aliases/prod': {}, 'POST /v1/luthier/aliases': {} });
    const root = draw(Models, {});
    await settled(root, 'Aliases');
    const form = root.querySelector('form')!;
    const choose = form.querySelector('select')!;
    type(form.querySelector('input')!, 'prod');
    choose.value = 'luthier-mini';
    choose.dispatchEvent(new Event('change', { bubbles: true }));
    flushSync();
    button(form, 'Move it').click();
    await vi.waitFor(() => expect(asked.find((one) => one.path.endsWith('/prod'))!.body).toEqual({ target: 'luthier-mini' }));
  });

  it('shows models to whom aliases are refused', async () => {
    serve({ 'GET /v1/luthier/models': served['GET /v1/luthier/models'], 'GET /v1/luthier/aliases': () => Promise.reject(new ApiError(403, { code: null, message: 'No.' })) });
    const root = draw(Models, {});
    await settled(root, 'with an admin');
    expect(root.querySelector('[role=alert]')).toBeNull();
  });
});

describe('System', () => {
  const state: SystemState = {
    object: 'luthier.system',
    devices: [{ kind: 'cpu', name: 'Xeon', cores: 2, memory_total: null, memory_free: null }],
    memory: { total: 25e9, available: 20e9, api_bytes: 1e8, engine_bytes: null },
    disk: { total: 270e9, free: 80e9, watched_seconds: 700, bytes_per_day: 40e9, seconds_to_full: 172_800 },
    queue: { jobs: { running: 1, queued: 2 }, waiting: 2 },
    workers: [{ role: 'train', seconds_since_beat: 1.5, alive: true }, { role: 'data', seconds_since_beat: null, alive: false }],
    engine: null,
    keys: 1,
    webhooks: 0,
    versions: { luthier: '0.1.0' },
  };
  const signIn = (role: Session['role']) => (session.current = { object: 'luthier.session', csrf: 'c', role, project_id: 'p', expires_at: 4e9 });

  it('says what is full, silent and down, not by colour alone', async () => {
    signIn('member');
    const asked = serve({ 'GET /v1/luthier/system': state });
    const root = draw(System, {});
    await settled(root, 'Full in about 2');
    expect(text(root)).toContain('✕ silent never heard of');
    expect(text(root)).toContain('✕ The engine does not answer.');
    expect(text(root)).toContain('2 jobs wait for a trainer.');
    expect(asked.some((one) => one.path.includes('keys'))).toBe(false);
  });

  it('shows a new key once, and asks before it revokes one', async () => {
    signIn('admin');
    const key = { id: 'k1', object: 'luthier.api_key', name: 'ci', role: 'member', project_id: 'p', redacted_value: 'sk-****', created_at: 1, created_by: null, revoked_at: null, limits: {} };
    const asked = serve({
      'GET /v1/luthier/system': state,
      'GET /v1/luthier/keys': { object: 'list', data: [key] },
      'GET /v1/webhook_endpoints': page([]),
      'POST /v1/luthier/keys': { ...key, value: 'sk-once' },
      'DELETE /v1/luthier/keys/k1': {},
    });
    const root = draw(System, {});
    await settled(root, 'sk-****');
    type(root.querySelector('input[placeholder="Name of a new key"]')!, 'ci');
    button(root, 'Make a key').click();
    await settled(root, 'sk-once');
    button(root, 'I have it').click();
    flushSync();
    expect(text(root)).not.toContain('sk-once');
    button(root, 'Revoke').click();
    flushSync();
    expect(asked.some((one) => one.method === 'DELETE')).toBe(false);
    button(root, 'Revoke the key').click();
    await vi.waitFor(() => expect(asked.some((one) => one.method === 'DELETE' && one.path.endsWith('/k1'))).toBe(true));
  });
});

describe('the jobs', () => {
  const jobs = (many: number) => ({ 'GET /v1/luthier/jobs': { ...page(Array.from({ length: many }, (_, i) => ({ ...goldenJob().row, id: `ftjob-${i}`, suffix: `job-${i}` }))), total: many } });

  it('are read once, not again because they have come', async () => {
    const asked = serve(jobs(3));
    const root = draw(Jobs, { compare: [] });
    await settled(root, 'job-2');
    await new Promise((done) => setTimeout(done, 600));
    flushSync();
    expect(asked).toHaveLength(1);
  });

  it('can be ordered where there is no room for the heads of columns', async () => {
    serve(jobs(2));
    const root = draw(Jobs, { compare: [] });
    await settled(root, 'job-1');
    const order = [...root.querySelectorAll('select')].find((one) => one.closest('label')?.textContent?.includes('Order'))!;
    order.value = 'best_valid_loss';
    order.dispatchEvent(new Event('change', { bubbles: true }));
    flushSync();
    expect(router.url.searchParams.get('sort')).toBe('best_valid_loss');
  });
});
