// A client of the demo, written against the types that openapi-typescript made of its document. Compiled, never run: what is
// marked must not compile.
import createClient from 'openapi-fetch';
import type { paths } from './client-3.1';

const client = createClient<paths>({ baseUrl: 'http://127.0.0.1:8080' });

const user = await client.GET('/get_user/{user_id}', { params: { path: { user_id: '123' } } });
export const city: string | undefined = user.data?.city;

const sum = await client.POST('/tools/add', { body: { a: 1, b: 2 } });
export const total: number | undefined = sum.data?.sum;
export const why: string | undefined = sum.error?.detail;

// @ts-expect-error there is no such tool
await client.POST('/tools/nobody', { body: {} });
// @ts-expect-error `b` is required
await client.POST('/tools/add', { body: { a: 1 } });
// @ts-expect-error `key` is one of three
await client.POST('/tools/set_preference', { body: { user_id: '123', key: 'colour', value: 'x' } });
