import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { inlined } from './vite.inline.ts';

const OUT = fileURLToPath(new URL('../src/luthier/api/static', import.meta.url));
// light-dark(), nesting and :has() are used as they are written: browsers of May 2024 and later.
const BROWSERS = ['chrome123', 'firefox120', 'safari17.5'];

/** Two builds into one folder: the dashboard, and (mode "twin") the page of one job that needs no server. */
export default defineConfig(({ mode }) => {
  const twin = mode === 'twin';
  return {
    base: twin ? './' : '/ui/',
    plugins: [svelte(), ...(twin ? [inlined()] : [])],
    build: {
      outDir: process.env.LUTHIER_WEB_OUT ?? OUT,
      emptyOutDir: !twin,
      target: BROWSERS,
      cssTarget: BROWSERS,
      assetsInlineLimit: twin ? Number.MAX_SAFE_INTEGER : 0,
      cssCodeSplit: !twin,
      modulePreload: twin ? false : { polyfill: false },
      reportCompressedSize: false,
      rollupOptions: {
        input: twin ? 'twin.html' : 'index.html',
        output: {
          entryFileNames: 'assets/[name]-[hash].js',
          chunkFileNames: 'assets/[name]-[hash].js',
          assetFileNames: 'assets/[name]-[hash][extname]',
          ...(twin ? { codeSplitting: false } : {}),
        },
      },
    },
    server: {
      // `npm run dev` beside `luthier serve`; LUTHIER_URL where it is elsewhere.
      proxy: Object.fromEntries(
        ['/v1', '/ui/session'].map((path) => [path, { target: process.env.LUTHIER_URL ?? 'http://127.0.0.1:8000', changeOrigin: false }]),
      ),
    },
    resolve: process.env.VITEST ? { conditions: ['browser'] } : {},
    test: { include: ['tests/**/*.test.ts'], environment: 'node' },
  };
});
