import { describe, expect, it } from 'vitest';
import { comparePath, dataPath, jobPath, playgroundPath, routeOf, VIEWS } from '../src/lib/routes';

const of = (address: string) => {
  const url = new URL(address, 'http://localhost');
  return routeOf(url.pathname, url.searchParams);
};

describe('routes', () => {
  it('finds every screen', () => {
    expect(of('/ui/')).toEqual({ screen: 'jobs', compare: [] });
    expect(of('/ui')).toEqual({ screen: 'jobs', compare: [] });
    expect(of('/ui/jobs?compare=a,b,a')).toEqual({ screen: 'jobs', compare: ['a', 'b'] });
    expect(of('/ui/jobs/ftjob-1')).toEqual({ screen: 'job', id: 'ftjob-1', view: 'story' });
    expect(of('/ui/data/file-1')).toEqual({ screen: 'dataset', file: 'file-1' });
    for (const screen of ['new', 'data', 'playground', 'models', 'system'] as const) expect(of(`/ui/${screen}`)).toEqual({ screen });
  });

  it('gives every view an address that leads back to it', () => {
    for (const view of VIEWS) expect(of(jobPath('ftjob-1', view))).toEqual({ screen: 'job', id: 'ftjob-1', view });
    expect(jobPath('a/b')).toBe('/ui/jobs/a%2Fb');
    expect(of(jobPath('a/b', 'quiz'))).toEqual({ screen: 'job', id: 'a/b', view: 'quiz' });
    expect(of(dataPath('file-ü'))).toEqual({ screen: 'dataset', file: 'file-ü' });
    expect(of(comparePath(['a', 'b']))).toEqual({ screen: 'jobs', compare: ['a', 'b'] });
    expect(playgroundPath(['ft:base:org:x:1', 'luthier-mini'])).toBe('/ui/playground?a=ft%3Abase%3Aorg%3Ax%3A1&b=luthier-mini');
  });

  it.each(['/', '/v1/models', '/ui/nothing', '/ui/jobs/a/nothing', '/ui/jobs/a/story/more', '/ui/new/x', '/uix'])('knows no screen at %s', (path) => {
    expect(of(path)).toEqual({ screen: 'unknown', path });
  });

  it('bears an address with a broken escape', () => {
    expect(of('/ui/jobs/%E0%A4%A')).toEqual({ screen: 'job', id: '%E0%A4%A', view: 'story' });
  });
});
