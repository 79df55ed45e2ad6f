/** Whether this tab hears from the server; the stream sets it, the bar shows it. */

import type { Connection } from './jobdata';

class LiveState {
  connection = $state<Connection>('polling');
}

export const live = new LiveState();
