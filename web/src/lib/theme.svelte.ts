/** Light, dark, high contrast, or as the system has it. The choice is the one thing kept in local storage. */

export const THEMES = [
  { name: 'system', label: 'Auto' },
  { name: 'light', label: 'Light' },
  { name: 'dark', label: 'Dark' },
  { name: 'contrast', label: 'High contrast' },
] as const;
export type Theme = (typeof THEMES)[number]['name'];
const PLACE = 'luthier.theme';

class ThemeState {
  chosen = $state<Theme>('system');
  /** Grows when colours changed: what draws on a canvas draws anew. */
  version = $state(0);

  start(): void {
    this.chosen = stored();
    for (const query of ['(prefers-contrast: more)', '(prefers-color-scheme: dark)']) {
      matchMedia(query).addEventListener('change', () => this.#apply());
    }
    this.#apply();
  }

  choose(theme: Theme): void {
    this.chosen = theme;
    try {
      localStorage.setItem(PLACE, theme);
    } catch {
      // A browser that keeps nothing: the choice holds for this page.
    }
    this.#apply();
  }

  #apply(): void {
    const root = document.documentElement;
    if (this.chosen === 'light' || this.chosen === 'dark') root.dataset.theme = this.chosen;
    else delete root.dataset.theme;
    const more = this.chosen === 'contrast' || (this.chosen === 'system' && matchMedia('(prefers-contrast: more)').matches);
    if (more) root.dataset.contrast = 'more';
    else delete root.dataset.contrast;
    this.version += 1;
  }
}

function stored(): Theme {
  try {
    const name = localStorage.getItem(PLACE);
    return THEMES.find((theme) => theme.name === name)?.name ?? 'system';
  } catch {
    return 'system';
  }
}

export const theme = new ThemeState();
