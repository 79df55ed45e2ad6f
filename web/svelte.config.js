import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

export default {
  preprocess: vitePreprocess(),
  compilerOptions: {
    runes: true,
    // Short and the same on every machine: the hash is of the file's path from web/, not of its place on disk.
    cssHash: ({ hash, filename, css }) => `l-${hash(filename.replaceAll('\\', '/').replace(/^.*\/web\/src\//, '') || css)}`,
  },
};
