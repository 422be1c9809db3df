import http from 'k6/http';
import exec from 'k6/execution';
export const options = { vus: Number(__ENV.USERS), duration: __ENV.DURATION, summaryTrendStats: ['p(50)', 'p(99)'] };
export default function () {
  http.get(`${__ENV.URL}/${exec.scenario.iterationInTest % Number(__ENV.DELAYS)}`, { tags: { name: 'k' } });
}
