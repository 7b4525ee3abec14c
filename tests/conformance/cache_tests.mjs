// The npm package http-cache-tests, run by its own runner and its own fetch. Arguments: its folder, the URL of the cache, and ids of tests
// (none: all but those for browsers). What `cli.mjs` there does, with what each test is beside its result. Surrogate-Control is left out:
// it stands on no RFC, and the published counts are without it.
import { createRequire } from 'node:module'

const [root, base, ...ids] = process.argv.slice(2)
const fetch = createRequire(`${root}/package.json`)('node-fetch')
const { runTests, getResults } = await import(`${root}/client/runner.mjs`)
const suites = (await import(`${root}/tests/index.mjs`)).default

const chosen = suites.map(suite => ({
  ...suite,
  tests: suite.tests.filter(test => test.browser_only !== true && (ids.length === 0 || ids.includes(test.id)))
}))
if (ids.length > 0) {
  for (const test of chosen.flatMap(suite => suite.tests)) test.dump = process.env.DUMP === '1'
}
await runTests(chosen, fetch, false, base, Number(process.env.AT_ONCE))
const results = getResults()
const told = chosen.flatMap(suite => suite.tests.map(test => ({
  id: test.id,
  suite: suite.id,
  name: test.name,
  kind: test.kind || 'required',
  needs: test.depends_on || [],
  fault: results[test.id] === true ? '' : results[test.id].join(': ')
})))
console.log(JSON.stringify(told))
