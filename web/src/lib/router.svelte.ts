/** The browser's address as state: our own history router. Links are plain `<a href>`; a click inside /ui stays on the page. */

import { BASE, routeOf, type Route } from './routes';

class Router {
  /** The address now. */
  url = $state(new URL('http://localhost/ui/'));
  route: Route = $derived(routeOf(this.url.pathname, this.url.searchParams));

  /** Start to listen; the answer stops it. */
  listen(): () => void {
    const follow = () => (this.url = new URL(location.href));
    const click = (event: MouseEvent) => this.#click(event);
    follow();
    addEventListener('popstate', follow);
    document.addEventListener('click', click);
    return () => {
      removeEventListener('popstate', follow);
      document.removeEventListener('click', click);
    };
  }

  /** Go to an address of ours; `replace` leaves no entry in the history. */
  go(path: string, { replace = false }: { replace?: boolean } = {}): void {
    const to = new URL(path, location.href);
    if (to.href === location.href) return;
    const samePage = to.pathname === location.pathname;
    history[replace ? 'replaceState' : 'pushState'](null, '', to);
    this.url = to;
    if (!samePage && !to.hash) scrollTo(0, 0);
  }

  /** Set (or, with null, take away) parts of the query; no new entry in the history. */
  query(values: Record<string, string | null>): void {
    const to = new URL(location.href);
    for (const [name, value] of Object.entries(values)) {
      if (value === null || value === '') to.searchParams.delete(name);
      else to.searchParams.set(name, value);
    }
    this.go(to.href, { replace: true });
  }

  #click(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest('a');
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (link.pathname !== BASE && !link.pathname.startsWith(`${BASE}/`)) return;
    // A jump within the page is the browser's.
    if (link.pathname === location.pathname && link.search === location.search && link.hash) return;
    event.preventDefault();
    this.go(link.href);
  }
}

export const router = new Router();
