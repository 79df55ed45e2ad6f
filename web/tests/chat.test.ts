import { describe, expect, it, vi } from 'vitest';
import { ASK, askFaults, askOf, chatRequest, eventsOf, streamChat, type Answer } from '../src/lib/chat';
import { whyOf } from '../src/lib/why';

const chunk = (content: string, more: object = {}) => ({
  choices: [
    {
      delta: { content },
      logprobs: content ? { content: [{ token: content, logprob: -0.5, bytes: [1], top_logprobs: [{ token: content, logprob: -0.5, bytes: [1] }] }] } : null,
      finish_reason: null,
    },
  ],
  usage: null,
  ...more,
});
const wire = (...events: unknown[]) => events.map((event) => `data: ${typeof event === 'string' ? event : JSON.stringify(event)}\n\n`).join('');

/** A body whose bytes come in pieces of this size, so that characters and lines are cut anywhere. */
function body(text: string, size: number): ReadableStream<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  return new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
      controller.close();
    },
  });
}
const serving = (text: string, size = 7) => ({ raw: vi.fn().mockResolvedValue(new Response(body(text, size))) });
const never = new AbortController().signal;

describe('an answer that streams', () => {
  it.each([1, 3, 7, 4096])('is whole, cut into pieces of %i bytes', async (size) => {
    const end = { choices: [{ delta: {}, logprobs: null, finish_reason: 'stop' }], usage: null };
    const usage = { choices: [], usage: { completion_tokens: 2 } };
    const seen: string[] = [];
    const answer = await streamChat(serving(wire(chunk(''), chunk('Été'), chunk(' 日本'), end, usage, '[DONE]'), size), {}, (a: Answer) => seen.push(a.text), never);
    expect(answer.text).toBe('Été 日本');
    expect(answer.finish).toBe('stop');
    expect(answer.usage!.completion_tokens).toBe(2);
    expect(answer.tokens.map((token) => token.token)).toEqual(['Été', ' 日本']);
    expect(seen.slice(0, 3)).toEqual(['', 'Été', 'Été 日本']);
  });

  it('that breaks off is no whole answer', async () => {
    await expect(streamChat(serving(wire(chunk('Bon'))), {}, () => {}, never)).rejects.toThrow('broke off');
  });

  it('with an error inside says it', async () => {
    const error = { choices: [], error: { message: 'The engine was stopped.', code: 'server_error' } };
    await expect(streamChat(serving(wire(chunk('Bon'), error)), {}, () => {}, never)).rejects.toThrow('The engine was stopped.');
  });

  it('skips comments', async () => {
    const seen: string[] = [];
    for await (const data of eventsOf(body(': ping\n\ndata: a\r\n\r\ndata: b\ndata: c\n\n', 2))) seen.push(data);
    expect(seen).toEqual(['a', 'b\nc']);
  });
});

describe('what is asked', () => {
  it('sends only the numbers that are given', () => {
    const request = chatRequest('m', { ...ASK, system: 'Be short.', prompt: 'Hi', temperature: '0.5', max_tokens: '' });
    expect(request).toMatchObject({ model: 'm', temperature: 0.5, stream: true, logprobs: true });
    expect(request.messages).toEqual([
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: 'Hi' },
    ]);
    expect(request).not.toHaveProperty('max_tokens');
    expect(request).not.toHaveProperty('seed');
  });

  it('comes out of the address, an emptied default too', () => {
    expect(askOf(new URLSearchParams('prompt=Hi%0Ayou&temperature='))).toEqual({ ...ASK, prompt: 'Hi\nyou', temperature: '' });
  });

  it('is looked at before it is sent', () => {
    expect(askFaults({ ...ASK, temperature: '3' }).temperature).toBe('Temperature must be a number between 0 and 2.');
    expect(askFaults({ ...ASK, max_tokens: '1.5' }).max_tokens).toContain('whole number');
    expect(askFaults(ASK)).toEqual({});
  });
});

describe('why it said that', () => {
  const trace = {
    object: 'luthier.prediction_trace' as const, model: 'm', base: 'b', prompt_tokens: [], tuned: { answer: 'Merci', finish_reason: 'stop', path: [] },
    base_side: { answer: 'x', finish_reason: 'stop', path: [] }, forced: null, embedding: null, layers: null, adapter: [], attention: null, missing: [], seconds: 0.1,
    nearest: [{ line: 2, similarity: 0.9, shared: ['thank'], prompt: 'Thank you', answer: 'Merci' }],
    why: {
      most_shifted: [{ index: 0, id: 1, text: 'Mer', tuned_logprob: -0.1, base_logprob: -8, change: 7.9 }, { index: 1, id: 2, text: 'ci', tuned_logprob: -0.1, base_logprob: null, change: null }],
      first_layers: [{ index: 0, id: 1, text: 'Mer', tuned_layer: 4, base_layer: null }],
    },
  };

  it('shows what was measured and nothing else', () => {
    expect(whyOf(trace as never).shifted).toEqual([{ text: 'Mer', tuned: -0.1, base: -8, change: 7.9 }]);
    expect(whyOf(trace as never).layers).toEqual([{ text: 'Mer', tuned: 4, base: null }]);
    expect(whyOf({ ...trace, base_side: null } as never).layers[0]!.base).toBeUndefined();
    expect(whyOf({ ...trace, why: null, nearest: null } as never)).toEqual({ shifted: [], layers: [], nearest: [] });
  });
});
