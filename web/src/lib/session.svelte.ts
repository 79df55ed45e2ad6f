/** Who is signed in. The key is sent once and kept nowhere: the cookie is the browser's, the CSRF word stays in memory. */

import type { Session } from '../api/types';
import { api, ApiError } from './api';

class SessionState {
  /** undefined: not asked yet; null: nobody. */
  current = $state<Session | null | undefined>(undefined);
  /** Why nothing is known, where the server did not answer at the start. */
  trouble = $state<string | null>(null);

  async start(): Promise<void> {
    this.trouble = null;
    try {
      this.#take(await api.get<Session>('/ui/session'));
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.#take(null);
      else this.trouble = (error as Error).message;
    }
    // Only from here on: the first question's 401 is its answer, no end of anything.
    api.onSignedOut = () => this.#take(null);
  }

  /** Throws an ApiError when the key is not good. */
  async signIn(key: string): Promise<void> {
    this.#take(await api.post<Session>('/ui/session', { api_key: key.trim() }));
  }

  async signOut(): Promise<void> {
    await api.delete('/ui/session');
    this.#take(null);
  }

  #take(session: Session | null): void {
    this.current = session;
    api.csrf = session?.csrf ?? null;
  }
}

export const session = new SessionState();
