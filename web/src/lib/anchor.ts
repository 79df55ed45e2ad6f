/** Leads to the place on the page that an address's `#name` means, as soon as it is drawn. */

const PATIENCE_MS = 4000;

/** Scroll to the element of that id and put the focus on it; waits a little for it to appear. */
export function leadTo(hash: string): void {
  const id = decodeURIComponent(hash.replace(/^#/, ''));
  if (!id || reach(id)) return;
  const watcher = new MutationObserver(() => reach(id) && watcher.disconnect());
  watcher.observe(document.body, { childList: true, subtree: true });
  setTimeout(() => watcher.disconnect(), PATIENCE_MS);
}

function reach(id: string): boolean {
  const place = document.getElementById(id);
  if (!place) return false;
  if (!place.hasAttribute('tabindex')) place.tabIndex = -1;
  place.scrollIntoView({ block: 'center' });
  place.focus({ preventScroll: true });
  for (const old of document.querySelectorAll('[data-led]')) old.removeAttribute('data-led');
  place.dataset.led = '';
  return true;
}
