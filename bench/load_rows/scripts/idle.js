import http from 'k6/http';
import { sleep } from 'k6';
export const options = { scenarios: { idle: { executor: 'ramping-vus', startVUs: 0, stages: [{ duration: '12s', target: Number(__ENV.USERS) }, { duration: '8s', target: Number(__ENV.USERS) }], gracefulStop: '0s', gracefulRampDown: '0s' } } };
export default function () { http.get(`${__ENV.URL}/`); sleep(5 + 10 * Math.random()); }
