import { describe, expect, it } from 'vitest';
import { Api, ApiError } from '../src/lib/api';
import { csvOf } from '../src/lib/csv';

type Call = { url: string; init: RequestInit };

function against(answer: () => Response | Promise<never>): { api: Api; calls: Call[] } {
  const calls: Call[] = [];
  const api = new Api((url, init) => {
    calls.push({ url: url as string, init: init! });
    return Promise.resolve(answer());
  });
  return { api, calls };
}

describe('calls', () => {
  it('carry the CSRF word where something changes, and only there', async () => {
    const { api, calls } = against(() => Response.json({ ok: true }));
    api.csrf = 'word';
    await api.get('/v1/models', { query: { limit: 5, after: null, search: '' } });
    await api.post('/v1/x', { a: 1 });
    await api.call('DELETE /v1/luthier/keys/{key_id}', { params: { key_id: 'a/b' } });
    expect(calls.map((call) => call.url)).toEqual(['/v1/models?limit=5', '/v1/x', '/v1/luthier/keys/a%2Fb']);
    expect(calls.map((call) => (call.init.headers as Record<string, string>)['x-luthier-csrf'])).toEqual([undefined, 'word', 'word']);
    expect(calls[1]!.init.body).toBe('{"a":1}');
  });

  it('throw the API’s own error with its status', async () => {
    const body = { error: { message: 'No such file', type: 'invalid_request_error', param: 'training_file', code: 'not_found' } };
    const { api } = against(() => Response.json(body, { status: 404, headers: { 'x-request-id': 'req_1' } }));
    const error = await api.get('/v1/files/x').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 404, message: 'No such file', param: 'training_file', code: 'not_found', requestId: 'req_1' });
  });

  it('say it plainly where what answers is not the API, or nothing does', async () => {
    const { api } = against(() => new Response('<html>', { status: 502 }));
    await expect(api.get('/v1/x')).rejects.toMatchObject({ status: 502, message: 'The server answered 502 without saying why.' });
    const gone = against(() => Promise.reject(new TypeError('failed')));
    await expect(gone.api.get('/v1/x')).rejects.toMatchObject({ status: 0 });
  });

  it('tell when the session is over', async () => {
    const { api } = against(() => Response.json({ error: { message: 'no' } }, { status: 401 }));
    let over = 0;
    api.onSignedOut = () => (over += 1);
    await api.get('/v1/x').catch(() => null);
    expect(over).toBe(1);
  });

  it('take an empty answer', async () => {
    const { api } = against(() => new Response(null, { status: 204 }));
    await expect(api.delete('/ui/session')).resolves.toBeUndefined();
  });
});

describe('csv', () => {
  it('quotes, and keeps a text from being run as a formula', () => {
    const table = { columns: [{ label: 'a' }, { label: 'b, c' }], rows: [['say "hi"', -1.5], ['=1+1', null], ['two\nlines', 'x']] };
    expect(csvOf(table)).toBe('a,"b, c"\r\n"say ""hi""",-1.5\r\n\'=1+1,\r\n"two\nlines",x\r\n');
  });
});
