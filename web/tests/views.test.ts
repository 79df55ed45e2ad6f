// @vitest-environment jsdom
/** Each view finds in the golden job one number of the run and one word of the user's own row. */
import { flushSync } from 'svelte';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Quiz as QuizData } from '../src/api/types';
import type { JobActions } from '../src/lib/jobdata';
import Code from '../src/views/Code.svelte';
import Compare from '../src/views/Compare.svelte';
import Data from '../src/views/Data.svelte';
import Events from '../src/views/Events.svelte';
import Examples from '../src/views/Examples.svelte';
import Prediction from '../src/views/Prediction.svelte';
import Quiz from '../src/views/Quiz.svelte';
import Story from '../src/views/Story.svelte';
import { predictionTrace } from './fixtures/prediction.mjs';
import { clear, draw, goldenJob } from './support/page';

afterEach(clear);

const button = (page: HTMLElement, text: string) => {
  const found = [...page.querySelectorAll('button')].find((one) => one.textContent.replace(/\s+/g, ' ').trim().startsWith(text));
  if (!found) throw new Error(`no button "${text}" among ${[...page.querySelectorAll('button')].map((one) => one.textContent.trim()).join(' | ')}`);
  return found;
};
const settled = async () => {
  await new Promise((go) => setTimeout(go, 0));
  flushSync();
};
const plain = (page: HTMLElement) => page.textContent.replace(/[\s\u202f]+/g, ' ');

describe('story', () => {
  it('shows the five stages with shapes, sample, seconds and what was dropped', () => {
    const page = draw(Story, { data: goldenJob() });
    expect(page.querySelectorAll('[id^=stage-]')).toHaveLength(5);
    const text = plain(page);
    expect(text).toContain('16 lines');
    expect(text).toContain('Translate to French: Yes');
    expect(text).toContain('1 blank line left out');
    expect(text).toContain('250 ms');
    expect(text).toContain('fell from 2.50 after epoch 1 to 1.25 after epoch 2');
    expect(text).toContain('went on from step 2');
  });

  it('calls what is on disk an adapter, or a model where all weights were trained', () => {
    const job = goldenJob();
    const spec = job.view.spec!;
    const published = { model_name: 'ft:m', bytes: 5_000_000, load_seconds: 0.1, first_token_seconds: 0.1, tokens_per_second: 100 };
    const view = { ...job.view, published };
    expect(plain(draw(Story, { data: { ...job, view } }))).toMatch(/Adapter.* on disk5\.00 MB/);
    const full = { ...view, spec: { ...spec, trainable_parameters: spec.total_parameters } };
    expect(plain(draw(Story, { data: { ...job, view: full } }))).toContain('Model on disk5.00 MB');
  });

  it('puts the insight on top with a link to its place', () => {
    const insight = { text: 'Loss fell to 1.00.', rule: 'best', view: 'training', anchor: 'epoch-2' };
    const page = draw(Story, { data: goldenJob({ insight }) });
    expect(page.querySelector('#insight')?.textContent).toContain('Loss fell to 1.00.');
    expect(page.querySelector('#insight a')?.getAttribute('href')).toBe('#/training/epoch-2');
  });

  it('says of a stage that waits what it will do and when, and shows no bar for it', () => {
    const job = goldenJob();
    const stages = job.view.stages.map((stage, i) => (i < 3 ? stage : { ...stage, status: 'waiting' as const, report: null }));
    const row = { ...job.row, status: 'running' as const, eta_seconds: 130 };
    const page = draw(Story, { data: { ...job, row, view: { ...job.view, stages } } });
    expect(plain(page.querySelector('#stage-evaluation')!)).toContain('The job takes about 2 min more');
    expect(page.querySelector('#stage-evaluation [role=progressbar]')).toBeNull();
  });
});

describe('data', () => {
  it('shows the sample as tokens by kind', () => {
    const page = draw(Data, { data: goldenJob() });
    expect(page.querySelectorAll('.strip .trained')).toHaveLength(1);
    expect(page.querySelector('.strip')?.textContent).toContain('Translate');
    expect(plain(page)).toContain('80 (20 %)');
  });

  it('reads any line of a server’s file and the faults of all', async () => {
    const preview = vi.fn<JobActions['preview']>().mockResolvedValue({
      object: 'luthier.row_preview',
      file: 'file-a',
      model: 'luthier-mini',
      line: 1,
      format: 'prompt_completion',
      ok: true,
      max_length: 3,
      max_length_reason: 'It was asked for.',
      reference: null,
      packing: null,
      findings: [],
      sequences: [
        {
          name: 'example', num_tokens: 3, num_trained: 1, num_context: 2, num_special: 0, num_truncated: 1, num_trained_lost: 1, trained_share: 1 / 3, num_shared: 0,
          first_trained: 2, last_trained: 2, placement: null,
          tokens: [
            { id: 1, text: 'Merci', bytes: [], kind: 'trained', lost: null, role: 'assistant', message: 1, weight: 1 },
            { id: 2, text: 'lost', bytes: [], kind: 'truncated', lost: 'trained', role: 'assistant', message: 1, weight: 1 },
          ],
        },
      ],
      problems: [{ code: 'answer_cut', severity: 'warning', message: 'The answer is cut.' }],
    });
    const check = vi.fn<JobActions['check']>().mockResolvedValue({
      object: 'luthier.data_report', role: 'training', method: null, error: null, file: 'train.jsonl', bytes: 9, ok: false, format: null, num_lines: 16, num_faulty_rows: 1, num_faults: 1, num_warnings: 0, by_code: {}, counts: {},
      findings: [{ file: 'train.jsonl', path: null, api_code: null, line: 7, column: 1, code: 'not_json', severity: 'error', message: 'The line is not JSON.', cure: 'Write rows with a JSON library.' }],
    });
    const page = draw(Data, { data: goldenJob({}, { preview, check }) });
    await settled();
    expect(preview).toHaveBeenCalledWith(1);
    expect(plain(page)).toContain('1 of 3 tokens are trained (33 %); 1 token cut off at 3.');
    expect(page.querySelector('.strip .truncated')?.textContent).toBe('lost');
    button(page, 'Look for faults').click();
    await settled();
    expect(plain(page)).toContain('1 fault in 1 row in the 16 lines of train.jsonl.');
    expect(plain(page)).toContain('Write rows with a JSON library.');
  });
});

describe('examples', () => {
  it('shows the fixed prompts over the epochs and the rows by loss', () => {
    const page = draw(Examples, { data: goldenJob() });
    expect(plain(page)).toContain('Translate to French: Hi');
    expect(plain(page)).toContain('Line 3 has the highest loss after epoch 2: 2.50, from 3.25 after epoch 1.');
    button(page, 'Least falling').click();
    flushSync();
    expect(plain(page)).toContain('The loss of line 3 has fallen least');
  });

  it('opens a row with its loss over the epochs', async () => {
    const page = draw(Examples, { data: goldenJob() });
    button(page, 'Line 1').click();
    flushSync();
    await settled();
    expect(plain(page.querySelector('#line-1')!)).toContain('The loss of line 1 fell from 3.00 after epoch 1 to 0.500 after epoch 2.');
    expect(plain(page.querySelector('#line-1')!)).toContain('Translate to French: Yes');
  });
});

describe('prediction', () => {
  it('shows what the run recorded, and says which layers are not there', () => {
    const page = draw(Prediction, { data: goldenJob() });
    expect(page.querySelector('[data-answer=tuned]')?.textContent).toBe('Salut');
    expect(page.querySelector('[data-answer=base]')?.textContent).toBe('Hello');
    expect(plain(page)).toContain('The tuned model gives “Salut” 87.5 %');
    expect(plain(page.querySelector('#layer-3')!)).toContain('Not shown: The run itself keeps tokens and probabilities only');
    expect(page.querySelector('#layer-3 table')).toBeNull();
  });

  it('traces a prompt in five layers and goes on from another token', async () => {
    const predict = vi.fn<JobActions['predict']>().mockResolvedValue(predictionTrace());
    const page = draw(Prediction, { data: goldenJob({}, { predict }) });
    page.querySelector('form')!.dispatchEvent(new SubmitEvent('submit', { cancelable: true, bubbles: true }));
    await settled();
    expect(predict.mock.calls[0]?.[0]).toMatchObject({ model: expect.stringContaining('ft:') as string, messages: [{ role: 'user', content: 'Translate to French: Good [bold]bye' }] });
    const layers = plain(page.querySelector('#layer-3')!);
    expect(layers).toContain('Tuned: “Salut” stays on top from layer 1 of 0 to 2 on.');
    expect(layers).toContain('v_proj of layer 1: its weights moved by 3.1 %');
    expect(plain(page.querySelector('#forced')!)).toContain('from 12.5 % to 87.5 %');
    expect(plain(page.querySelector('#why')!)).toContain('similar, not proof');
    page.querySelectorAll<HTMLElement>('#layer-2 .token')[1]!.click();
    await settled();
    expect(predict.mock.calls[1]?.[0]).toMatchObject({ token: 1, tiers: ['B'] });
    button(page.querySelector('#layer-5')!, 'Hello').click();
    await settled();
    expect(predict.mock.calls[2]?.[0]).toMatchObject({ path: [51] });
  });
});

describe('compare', () => {
  it('shows base beside tuned with counts, and says when no answer fits', () => {
    const page = draw(Compare, { data: goldenJob() });
    expect(plain(page)).toContain('The tuned model is better on 3 of 4 held-out rows, worse on 0, the same on 1.');
    expect(plain(page)).toContain('Translate to French: Yes');
    const field = page.querySelector('input')!;
    field.value = 'nowhere';
    field.dispatchEvent(new Event('input', { bubbles: true }));
    flushSync();
    expect(plain(page)).toContain('No such answer');
  });

  it('teaches what is missing where there was no validation file', () => {
    const job = goldenJob();
    const page = draw(Compare, { data: { ...job, row: { ...job.row, validation_file: null }, view: { ...job.view, evaluation: null } } });
    expect(plain(page)).toContain('The job had no validation file');
  });
});

describe('quiz', () => {
  const quiz: QuizData = {
    note: null,
    questions: ['a', 'b', 'c'].map((id) => ({
      id,
      question: `Question ${id}: how low did the held-out loss get?`,
      answers: [
        { text: '1.25', correct: false },
        { text: '1.00', correct: true },
      ],
      explanation: 'It was 1.00 after epoch 2.',
      view: 'training',
      anchor: 'epoch-2',
    })),
  };

  it('leads from an answer to the place that shows it', () => {
    const page = draw(Quiz, { data: goldenJob({ quiz }) });
    expect(plain(page)).toContain('0 of 3 answered');
    page.querySelectorAll<HTMLElement>('.answers button')[0]!.click();
    flushSync();
    expect(plain(page)).toContain('✕ not so');
    expect(plain(page)).toContain('It was 1.00 after epoch 2.');
    expect(page.querySelector('#question-1 a')?.getAttribute('href')).toBe('#/training/epoch-2');
    page.querySelectorAll<HTMLElement>('.answers button')[3]!.click();
    page.querySelectorAll<HTMLElement>('.answers button')[5]!.click();
    flushSync();
    expect(plain(page)).toContain('2 of 3 right.');
  });

  it('says when questions come', () => {
    const job = goldenJob();
    expect(plain(draw(Quiz, { data: { ...job, row: { ...job.row, status: 'queued', queue_place: 2 } } }))).toContain('number 2 in the queue');
  });
});

describe('code', () => {
  it('shows all three calls as they are', () => {
    const page = draw(Code, { data: goldenJob({ code: { python: 'training_file="file-train"', curl: 'curl <x>', cli: 'luthier jobs create' } }) });
    expect([...page.querySelectorAll('pre')].map((one) => one.textContent)).toEqual(['training_file="file-train"', 'curl <x>', 'luthier jobs create']);
  });
});

describe('events', () => {
  it('shows log, checkpoints, files and raw numbers', () => {
    const page = draw(Events, { data: goldenJob() });
    const text = plain(page);
    expect(text).toContain('Created fine-tuning job: ftjob-abc');
    expect(text).toContain('ckpt-step-2');
    expect(text).toContain('4 steps; the train loss went from 3.00 to 1.00.');
    expect(text).toContain('strings');
    expect(page.querySelectorAll('#numbers tbody tr')).toHaveLength(4);
  });
});
