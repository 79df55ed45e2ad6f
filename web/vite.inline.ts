import type { Plugin, Rollup } from 'vite';

/** Puts the one script and the one style sheet of a build into its HTML file, so that the page needs nothing beside it. */
export function inlined(): Plugin {
  return {
    name: 'luthier-inlined',
    apply: 'build',
    enforce: 'post',
    // Last of all: Vite itself still writes into the script in this hook.
    generateBundle: { order: 'post', handler: (_, bundle) => inline(bundle) },
  };
}

function inline(bundle: Rollup.OutputBundle): void {
  const page = Object.values(bundle).find((file) => file.fileName.endsWith('.html'));
  if (page?.type !== 'asset') throw new Error('the build made no page');
  let html = String(page.source);
  for (const file of Object.values(bundle)) {
    if (file === page) continue;
    // A reference stands with "./" before it; functions as replacements, for "$&" in code is no pattern.
    if (file.type === 'chunk') {
      const code = file.code.replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--');
      html = html.replace(new RegExp(`<script[^>]*src="[^"]*${escaped(file.fileName)}"[^>]*></script>`), '');
      html = html.replace('</body>', () => `<script type="module">${code}</script></body>`);
    } else {
      const css = String(file.source).replaceAll('</style', '<\\/style');
      html = html.replace(new RegExp(`<link[^>]*href="[^"]*${escaped(file.fileName)}"[^>]*>`), () => `<style>${css}</style>`);
    }
    Reflect.deleteProperty(bundle, file.fileName);
  }
  if (/(src|href)="(?!data:|#)/.test(html.replace(/<script[\s\S]*?<\/script>|<style[\s\S]*?<\/style>/g, ''))) {
    throw new Error('the page of one job still refers to another file');
  }
  page.source = html;
}

function escaped(name: string): string {
  return name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
