/** The page's one stream, and what a browser tells about tab and network. A tab that is not looked at gives its connection back. */

import { live } from './live-state.svelte';
import { Stream } from './stream';

const HIDDEN_MS = 60_000;

export const hub = new Stream(
  {
    open: (url) => new EventSource(url),
    later: (run, ms) => setTimeout(run, ms),
    forget: (timer) => clearTimeout(timer as number | undefined),
    dice: Math.random,
  },
  (connection) => (live.connection = connection),
);

/** Keep the stream while somebody is signed in; the answer ends it. */
export function keepLive(): () => void {
  let asleep: ReturnType<typeof setTimeout> | undefined;
  const looked = () => {
    clearTimeout(asleep);
    if (document.hidden) asleep = setTimeout(() => hub.stop(), HIDDEN_MS);
    else hub.start();
  };
  const online = () => hub.wake();
  document.addEventListener('visibilitychange', looked);
  addEventListener('online', online);
  hub.start();
  return () => {
    clearTimeout(asleep);
    document.removeEventListener('visibilitychange', looked);
    removeEventListener('online', online);
    hub.stop();
  };
}
