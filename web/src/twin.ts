/** The page of one job that needs no server: the same nine views over the data that lies in the page itself. */

import { mount } from 'svelte';
import { staticSource, type SavedJob } from './lib/jobdata';
import { theme } from './lib/theme.svelte';
import Twin from './Twin.svelte';
import './styles/tokens.css';
import './styles/base.css';

const saved = JSON.parse(document.getElementById('job-data')!.textContent) as SavedJob | null;

theme.start();
mount(Twin, { target: document.getElementById('app')!, props: { saved, source: saved && staticSource(saved) } });
