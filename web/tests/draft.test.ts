import { describe, expect, it } from 'vitest';
import { callsOf, draftOf, faultsOf, forecastOf, OPTIONS, python, queryOf, quoted, requestOf, type Draft } from '../src/lib/draft';

const EMPTY = draftOf(new URLSearchParams());
const FULL: Draft = {
  ...EMPTY,
  training: 'file-a',
  validation: 'file-b',
  model: 'luthier-mini',
  method: 'dpo',
  suffix: "l'été",
  seed: '7',
  n_epochs: '3',
  learning_rate_multiplier: '0.5',
  beta: '0.2',
  options: { adapter: 'rslora', rank: '64', targets: 'q_proj v_proj', early_stopping: 'true' },
};

describe('a draft in the address', () => {
  it('comes back as it was, and takes away what is not given', () => {
    const query = queryOf(FULL);
    const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== null);
    expect(draftOf(new URLSearchParams(given))).toEqual(FULL);
    expect(query.batch_size).toBeNull();
    expect(query['o.schedule']).toBeNull();
    expect(Object.values(queryOf(EMPTY)).every((value) => value === null)).toBe(true);
  });

  it('knows only its own options', () => {
    expect(draftOf(new URLSearchParams('o.rank=8&o.evil=1&method=other')).options).toEqual({ rank: '8' });
  });
});

describe('the request', () => {
  it('has what was chosen, with numbers as numbers', () => {
    expect(requestOf(FULL)).toEqual({
      model: 'luthier-mini',
      training_file: 'file-a',
      validation_file: 'file-b',
      suffix: "l'été",
      seed: 7,
      method: { type: 'dpo', dpo: { hyperparameters: { n_epochs: 3, learning_rate_multiplier: 0.5, beta: 0.2 } } },
      luthier: { adapter: 'rslora', rank: 64, targets: ['q_proj', 'v_proj'], early_stopping: true },
    });
  });

  it('leaves everything else to the server', () => {
    expect(requestOf({ ...EMPTY, training: 'f', model: 'm' })).toEqual({ model: 'm', training_file: 'f' });
    // Beta belongs to preference tuning alone.
    expect(requestOf({ ...FULL, method: 'supervised' }).method).toEqual({
      type: 'supervised',
      supervised: { hyperparameters: { n_epochs: 3, learning_rate_multiplier: 0.5 } },
    });
  });

  it('is forecast without the suffix', () => {
    expect(forecastOf(FULL)).not.toHaveProperty('suffix');
    expect(forecastOf(FULL).seed).toBe(7);
  });
});

describe('what stands in the way', () => {
  it.each([
    [{ n_epochs: '0' }, 'n_epochs', 'Epochs must lie between 1 and 50.'],
    [{ n_epochs: '1.5' }, 'n_epochs', 'Epochs must be a whole number.'],
    [{ batch_size: 'many' }, 'batch_size', 'Batch size must be a whole number.'],
    [{ validation: 'file-a' }, 'validation', 'The validation file is the training file: it would measure memory only.'],
    [{ options: { rank: '1000' } }, 'rank', 'Rank must lie between 1 and 512.'],
    [{ training: '' }, 'training', 'Choose a training file.'],
  ] as [Partial<Draft>, string, string][])('%o', (parts, field, words) => expect(faultsOf({ ...FULL, ...parts })[field]).toBe(words));
  it('is nothing for a good draft', () => expect(faultsOf(FULL)).toEqual({}));
});

describe('the same as calls', () => {
  const calls = callsOf(FULL, 'http://127.0.0.1:8000');

  it('is a Python call with the values of Python', () => {
    expect(calls.python).toContain('training_file="file-a",');
    expect(calls.python).toContain('extra_body={"luthier": {"adapter": "rslora", "rank": 64, "targets": ["q_proj", "v_proj"], "early_stopping": True}},');
    expect(calls.python).toContain('api_key=os.environ["OPENAI_API_KEY"]');
  });

  it('is a shell command that a quote in a name does not break', () => {
    expect(calls.cli).toContain("--suffix 'l'\\''été'");
    expect(calls.cli).toContain('--option adapter=rslora');
    expect(calls.cli).toContain('--method dpo');
    const body = /-d '([\s\S]*)'$/.exec(calls.curl)![1]!.replaceAll("'\\''", "'");
    expect(JSON.parse(body)).toEqual(requestOf(FULL));
  });

  it('leaves out the loss on pairs where rows are no pairs', () => {
    const pairs: Draft = { ...FULL, method: 'dpo', options: { preference_loss: 'orpo' } };
    expect(requestOf(pairs).luthier).toEqual({ preference_loss: 'orpo' });
    expect(callsOf(pairs, 'http://x').cli).toContain('--option preference_loss=orpo');
    expect(requestOf({ ...pairs, method: 'supervised' }).luthier).toBeUndefined();
    expect(callsOf({ ...pairs, method: 'supervised' }, 'http://x').cli).not.toContain('preference_loss');
  });

  it('names what is missing', () => {
    expect(callsOf(EMPTY, 'http://x').python).toContain('training_file="FILE_ID"');
    expect(JSON.parse(/-d '([\s\S]*)'$/.exec(callsOf(EMPTY, 'http://x').curl)![1]!).model).toBe('MODEL');
  });

  it('quotes words and writes literals', () => {
    expect(quoted('plain-1.5')).toBe('plain-1.5');
    expect(quoted('$(rm)')).toBe("'$(rm)'");
    expect(python({ a: [1, false], b: 'x"y' } as never)).toBe('{"a": [1, False], "b": "x\\"y"}');
    expect(new Set(OPTIONS.map((rule) => rule.name)).size).toBe(OPTIONS.length);
  });
});
