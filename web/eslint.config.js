import svelte from 'eslint-plugin-svelte';
import globals from 'globals';
import tseslint from 'typescript-eslint';
import svelteConfig from './svelte.config.js';

// What the strict content security policy would refuse, and what would draw a user's text as HTML, is refused here already.
const MARKUP = {
  'svelte/no-at-html-tags': 'error',
  'no-restricted-syntax': ['error', { selector: 'SvelteAttribute[key.name="style"]', message: 'The policy forbids style attributes: a class, or style:name={value}.' }],
  'svelte/no-target-blank': 'error',
  'svelte/button-has-type': 'error',
  'svelte/require-each-key': 'error',
  // Our addresses begin with /ui; there is no SvelteKit here.
  'svelte/no-navigation-without-resolve': 'off',
};

export default tseslint.config(
  { ignores: ['node_modules', 'dist', 'src/api/schema.ts', 'src/api/trace.ts'] },
  ...tseslint.configs.strict,
  ...svelte.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser } },
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      'no-restricted-properties': ['error', { property: 'innerHTML', message: 'Text only.' }, { property: 'outerHTML', message: 'Text only.' }],
      'no-restricted-globals': ['error', { name: 'fetch', message: 'lib/api.ts is the one way to the server.' }],
      eqeqeq: 'error',
    },
  },
  { files: ['src/lib/api.ts'], rules: { 'no-restricted-globals': 'off' } },
  { files: ['*.config.ts', '*.config.js', '*.ts', 'tests/**'], languageOptions: { globals: { ...globals.node } } },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: { parserOptions: { parser: tseslint.parser, extraFileExtensions: ['.svelte'], svelteConfig } },
    rules: MARKUP,
  },
);
