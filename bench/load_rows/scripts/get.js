import http from 'k6/http';
import { check } from 'k6';
export const options = { vus: 50, duration: __ENV.DURATION, summaryTrendStats: ['p(50)', 'p(99)'] };
export default function () {
  const reply = http.get(`${__ENV.URL}/`);
  check(reply, { 'is 200': (r) => r.status === 200 });
}
