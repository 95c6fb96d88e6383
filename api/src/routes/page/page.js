"use strict";
// What is shown comes from this door: sales and live counters from public routes, the cluster from /v1/status with a
// token. In a demo, its controls hand out tokens and break things; in development mode the door itself does.
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const { mode, control } = root.dataset;
  const WINDOW_MS = 300000, SAMPLES_MAX = 1500, STATUS_MS = 1000, RATE_MS = 3000, RETRY_MS = 1000, SALES_MS = 5000;
  const format = new Intl.NumberFormat("en");
  const text = (id, value) => { const node = $(id); if (node.textContent !== value) node.textContent = value; };
  const element = (name, className, content) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (content !== undefined) made.textContent = content;
    return made;
  };

  let sale = "", source = null, counters = null, samples = [], operator = "", shopper = "", shoppers = 0;
  let phase = { claims: mode === "development", acts: false };

  // Calls. A problem document becomes an error that says what it says.
  async function call(url, options = {}) {
    const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(15000) });
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      const error = new Error(body.detail || body.title || body.said || `HTTP ${answer.status}`);
      Object.assign(error, { status: answer.status, body });
      throw error;
    }
    return body;
  }
  const post = (url, token, body, key) => call(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }), ...(key && { "idempotency-key": key }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  const demo = (path, method = "POST") => call(`${control}/${path}`, { method, headers: { "holdfast-demo": "1" } });
  const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  async function token(role) {
    const sub = role === "shopper" ? `you-${random()}` : "page";
    if (mode === "development") return (await post("/dev/token", "", { sub, role })).token;
    return (await demo(`token/${role}`)).token;
  }

  // The sale's counters, live.
  function listen(next) {
    if (next === sale) return;
    sale = next;
    samples = [];
    counters = null;
    source?.close();
    source = new EventSource(`/v1/sales/${encodeURIComponent(sale)}/live`);
    source.addEventListener("counters", (event) => { counters = JSON.parse(event.data); sample(); show(); });
    source.onopen = () => linked(true);
    source.onerror = () => linked(false);
    document.title = `${sale} · Holdfast`;
    drop();
  }
  function linked(live) {
    $("link").className = live ? "link live" : "link lost";
    text("link", live ? "live" : "reconnecting");
  }
  function sample() {
    const now = performance.now();
    const { units_total: total, units_available: available, units_held: held, units_confirmed: sold, claims_made: made } = counters;
    samples.push({ now, total, available, held, sold, made });
    while (samples.length > SAMPLES_MAX || (samples.length > 2 && samples[1].now < now - WINDOW_MS)) samples.shift();
  }
  function rate(name) {
    const now = performance.now();
    const last = samples.at(-1);
    const first = samples.findLast((one) => one.now <= now - RATE_MS) ?? samples[0];
    const seconds = Math.max(now - first.now, 1000) / 1000;
    return Math.max(0, last[name] - first[name]) / seconds;
  }
  const rated = (value) => value === 0 ? "0" : value < 10 ? value.toFixed(1) : format.format(Math.round(value));
  function show() {
    if (!counters) return;
    text("available", format.format(counters.units_available));
    text("held", format.format(counters.units_held));
    text("sold", format.format(counters.units_confirmed));
    text("total", `of ${format.format(counters.units_total)} units`);
    text("share", `${(100 * counters.units_confirmed / counters.units_total).toFixed(1)} %`);
    text("granted", rated(rate("made")));
    text("paid", rated(rate("sold")));
    text("status", counters.status);
    $("status").className = `pill ${counters.status}`;
    claimable();
    draw();
  }

  // The plot: what is sold at the bottom, what is held on it, what is left on top.
  const make = (name, attributes, content) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (content !== undefined) made.textContent = content;
    return made;
  };
  function draw() {
    const { width, height } = $("plot").getBoundingClientRect();
    if (!width || !samples.length) return;
    const bottom = height - 22, left = 0, right = width;
    const now = performance.now(), span = Math.min(Math.max(now - samples[0].now, 10000), WINDOW_MS);
    const top = Math.max(...samples.map((one) => one.total), 1);
    const x = (at) => right - (right - left) * Math.min(now - at, span) / span;
    const y = (units) => bottom - (bottom - 8) * units / top;
    const points = [...samples, { ...samples.at(-1), now }];
    const area = (below, above) => {
      // Steps: between two samples nothing changed.
      let upper = "", lower = "", before = null;
      for (const one of points) {
        const at = x(one.now).toFixed(1);
        if (before) { upper += `L${at} ${y(above(before)).toFixed(1)}`; lower = `L${at} ${y(below(before)).toFixed(1)}` + lower; }
        upper += `${before ? "L" : "M"}${at} ${y(above(one)).toFixed(1)}`;
        lower = `L${at} ${y(below(one)).toFixed(1)}` + lower;
        before = one;
      }
      return upper + lower + "Z";
    };
    $("area-sold").setAttribute("d", area(() => 0, (one) => one.sold));
    $("area-held").setAttribute("d", area((one) => one.sold, (one) => one.sold + one.held));
    $("area-available").setAttribute("d", area((one) => one.sold + one.held, (one) => one.total));
    const grid = [0, .5, 1].map((part) => make("line", { x1: left, x2: right, y1: y(top * part), y2: y(top * part) }));
    const ago = (ms) => ms < 60000 ? `${Math.round(ms / 1000)} s ago` : `${Math.round(ms / 60000)} min ago`;
    const labels = [[left, "start", ago(span)], [(left + right) / 2, "middle", ago(span / 2)], [right, "end", "now"]];
    $("grid").replaceChildren(...grid);
    $("labels").replaceChildren(...labels.map(([at, anchor, words]) => make("text", { x: at, y: height - 4, "text-anchor": anchor }, words)));
    const last = samples.at(-1);
    $("plot").setAttribute("aria-label", `Units over time: now ${last.available} available, ${last.held} held, ${last.sold} sold of ${last.total}`);
  }

  // The cluster, for operators.
  const ROLES = { leader: "good", follower: "good", learner: "good", candidate: "warn", stopping: "warn", uninitialized: "warn", unreachable: "bad" };
  const KINDS = {
    "claim-granted": ["granted", "granted"], "claim-confirmed": ["confirmed", "sold"], "claim-expired": ["back", "expired, back in stock"],
    "claim-released": ["back", "given back"], "claim-extended": ["", "extended for checkout"], "claim-cancelled": ["back", "cancelled, back in stock"],
    "sale-created": ["", "sale created"], "sale-opened": ["", "sale opened"], "sale-paused": ["", "sale paused"], "sale-closed": ["", "sale closed"],
    "sale-restocked": ["", "units added"], "sale-withdrawn": ["", "units withdrawn"],
  };
  const ids = new Map();
  let asked = null, newest = null;
  function showStatus(status) {
    // One that does not answer keeps the id that it had, and its row.
    for (const node of status.nodes) if (node.node_id !== null) ids.set(node.endpoint, node.node_id);
    const id = (node) => ids.get(node.endpoint) ?? Infinity;
    $("nodes").replaceChildren(...status.nodes.toSorted((one, other) => id(one) - id(other)).map((node) => {
      const row = element("tr");
      const name = element("td", "", String(ids.get(node.endpoint) ?? "?"));
      name.append(element("small", "", node.endpoint));
      const role = element("td");
      role.append(element("span", `state ${ROLES[node.role] ?? "warn"}`, node.role));
      const known = node.node_id !== null;
      const number = (value) => element("td", "number", known && value !== null ? format.format(value) : "–");
      row.append(name, role, number(node.term), number(node.applied_index), number(node.lag_entries));
      return row;
    }));
    const breakers = status.breakers.map(({ name, state }) => {
      const item = element("li", "", name);
      item.append(element("span", `state ${{ closed: "good", open: "bad" }[state] ?? "warn"}`, { closed: "closed: calls pass", open: "open: calls refused", "half-open": "half-open: trying" }[state]));
      return item;
    });
    $("breakers").replaceChildren(...(breakers.length ? breakers : [element("li", "quiet", "no payment provider is configured")]));
    const head = JSON.stringify(status.events[0] ?? null);
    if (head !== newest) {
      newest = head;
      const events = status.events.map((event) => {
        const [tone, words] = KINDS[event.kind] ?? ["", event.kind];
        const item = element("li", tone), what = element("span", "what");
        what.append(element("b", "", event.kind.startsWith("claim-") ? format.format(event.count) : "·"), ` ${words}`);
        item.append(what, element("span", "quiet", `index ${format.format(event.log_index)}`));
        return item;
      });
      $("events").replaceChildren(...(events.length ? events : [element("li", "quiet", "nothing since this page looks")]));
    }
    const now = performance.now();
    if (asked) text("asked", rated((status.claims_answered - asked.count) / Math.max((now - asked.now) / 1000, .5)));
    asked = { now, count: status.claims_answered };
  }
  async function watchStatus() {
    for (;;) {
      if (operator && sale && !document.hidden) {
        try {
          showStatus(await call(`/v1/status?sale=${encodeURIComponent(sale)}`, { headers: { authorization: `Bearer ${operator}` } }));
        } catch (error) {
          if (error.status === 401 || error.status === 403) await renew();
        }
      }
      await new Promise((done) => setTimeout(done, STATUS_MS));
    }
  }
  async function renew() {
    operator = "";
    if (mode === "plain") { root.classList.remove("operator"); root.classList.add("signs"); return; }
    try { operator = await token("auditor"); } catch { /* the next round asks again */ }
  }
  $("sign").addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = $("token").value.trim().replace(/^Bearer /i, "");
    try {
      showStatus(await call("/v1/status", { headers: { authorization: `Bearer ${given}` } }));
      operator = given;
      root.classList.add("operator");
      root.classList.remove("signs");
    } catch (error) {
      text("sign-said", error.status === 403 ? "This token is a shopper's: it shows no more than the page does." : error.message);
    }
  });

  // A claim of one's own.
  let claim = null, ends = 0, lasts = 1, busy = false;
  function say(words, note = " ") { text("claim-said", words); text("claim-note", note); }
  function drop() {
    claim = null;
    ends = 0;
    text("claim-left", " ");
    $("claim-bar").style.transform = "scaleX(0)";
    buttons();
  }
  function buttons() {
    const focused = document.activeElement;
    const held = claim?.status === "held";
    $("claim").hidden = held;
    $("pay").hidden = $("release").hidden = !held;
    for (const id of ["claim", "pay", "release"]) $(id).disabled = busy;
    claimable();
    if (mine(focused) && focused.hidden) goOn();
  }
  // Whoever uses the keyboard stays where the next step is.
  const mine = (focused) => ["claim", "pay", "release"].includes(focused?.id);
  const goOn = () => $(claim?.status === "held" ? "pay" : "claim").focus({ preventScroll: true });
  function claimable() {
    text("claim", claim && claim.status !== "held" ? "Claim another, as somebody else" : "Claim one unit");
    $("claim").disabled = busy || !phase.claims || counters?.status !== "open";
  }
  async function act(step) {
    if (busy) return;
    // A button that is disabled loses the focus.
    const began = mine(document.activeElement);
    busy = true;
    buttons();
    try { await step(); } catch (error) { say(error.message, error.body?.type ?? " "); }
    busy = false;
    buttons();
    if (began && document.activeElement === document.body) goOn();
  }
  // One key for each thing that is wanted, however often it is tried.
  async function surely(send) {
    for (let tries = 1; ; tries++) {
      try { return await send(); } catch (error) {
        if (tries === 5 || (error.status && !error.body.same_key_safe)) throw error;
        say("No answer yet; asking again with the same key.");
        await new Promise((done) => setTimeout(done, RETRY_MS));
      }
    }
  }
  $("claim").addEventListener("click", () => act(async () => {
    drop();
    busy = true;
    shopper = await token("shopper");
    shoppers += 1;
    const key = random();
    let answer;
    try {
      answer = await surely(() => post(`/v1/sales/${encodeURIComponent(sale)}/claims`, shopper, { quantity: 1 }, key));
    } catch (error) {
      if (error.body?.type?.endsWith("sold-out")) return say("Sold out for now.", error.body.maybe_more_until ? `some may come back until ${new Date(error.body.maybe_more_until).toLocaleTimeString()}` : "no hold is outstanding: none will come back");
      throw error;
    }
    claim = answer;
    lasts = Math.max(answer.seconds_remaining, 1) * 1000;
    ends = performance.now() + lasts;
    $("claim").closest("section").classList.remove("sold");
    say(`Held for you, rank ${format.format(answer.rank)}.`, `receipt: log index ${answer.receipt.log_index}, position ${answer.receipt.position}, term ${answer.receipt.term}`);
  }));
  $("release").addEventListener("click", () => act(async () => {
    await call(`/v1/claims/${claim.claim_id}`, { method: "DELETE", headers: { authorization: `Bearer ${shopper}`, "idempotency-key": random() } });
    drop();
    say("Given back; the next shopper may have it.");
  }));
  $("pay").addEventListener("click", () => act(async () => {
    const url = `/v1/claims/${claim.claim_id}/checkout`, key = random();
    say("Paying with a test card.");
    let order = await surely(() => post(url, shopper, { payment_method: "pm_card_visa" }, key));
    for (let looks = 0; !order.order_id && looks < 60; looks++) {
      await new Promise((done) => setTimeout(done, RETRY_MS));
      if (order.next_action_url) {
        const link = element("a", "", "Your bank wants to see you first");
        Object.assign(link, { href: order.next_action_url, target: "_blank", rel: "noreferrer" });
        $("claim-note").replaceChildren(link);
      }
      order = await call(url, { headers: { authorization: `Bearer ${shopper}` } });
      if (order.status === "failed" || order.status === "declined") throw new Error("The payment did not go through.");
    }
    drop();
    claim = { status: "confirmed" };
    $("claim").closest("section").classList.add("sold");
    $("claim-bar").style.transform = "scaleX(1)";
    say("Yours, for good.", order.order_id ? `order ${order.order_id}` : " ");
  }));
  function countDown() {
    if (claim?.status !== "held") return;
    const left = Math.max(0, ends - performance.now()), seconds = Math.ceil(left / 1000);
    text("claim-left", `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`);
    $("claim-bar").style.transform = `scaleX(${left / lasts})`;
    if (left === 0 && !busy) {
      drop();
      say("Time is up; the unit went back for the next shopper.");
    }
  }

  // The demo's controls.
  function enter(next) {
    phase = next;
    for (const button of document.querySelectorAll("[data-action]")) button.disabled = !phase.acts;
    if (!phase.acts) text("demo-said", phase.why ?? " ");
    else if ($("demo-said").textContent === waited) text("demo-said", " ");
    waited = phase.why ?? "";
    claimable();
  }
  let waited = "";
  for (const button of document.querySelectorAll("[data-action]")) {
    button.addEventListener("click", async () => {
      text("demo-said", "…");
      try { text("demo-said", (await demo(button.dataset.action)).said); } catch (error) { text("demo-said", error.message); }
    });
  }
  async function lookAtDemo() {
    try {
      phase = await demo("phase", "GET");
      if (!operator) operator = await token("auditor");
    } catch { phase = { claims: false, acts: false, why: "The demo has ended." }; }
    enter(phase);
    return phase.sale;
  }

  // Which sales there are.
  let wanted = new URLSearchParams(location.search).get("sale") ?? "", chosen = false, led = "";
  async function lookAtSales() {
    const { sales } = await call("/v1/sales?limit=100");
    const ids = sales.map((one) => one.sale_id);
    const list = $("sales");
    if (ids.join() !== [...list.options].map((option) => option.value).join()) {
      list.replaceChildren(...sales.map((one) => { const option = element("option", "", one.name && one.name !== one.sale_id ? `${one.name} (${one.sale_id})` : one.sale_id); option.value = one.sale_id; return option; }));
      if (sale) list.value = sale;
    }
    const open = sales.find((one) => one.status === "open") ?? sales[0];
    const next = ids.includes(wanted) ? wanted : open?.sale_id;
    if (next && (!sale || (!chosen && wanted && next === wanted && next !== sale))) { list.value = next; listen(next); }
    if (!ids.length) text("link", "no sale yet");
  }
  $("sales").addEventListener("change", () => { chosen = true; listen($("sales").value); });
  async function watchSales() {
    for (;;) {
      try {
        if (mode === "demo") {
          // The demo goes on to another sale; whoever looked at the one before follows.
          const leads = await lookAtDemo();
          if (leads && leads !== led) { led = wanted = leads; chosen = false; }
        }
        await lookAtSales();
      } catch { if (!sale) text("link", "no answer"); }
      await new Promise((done) => setTimeout(done, mode === "demo" || !sale ? RETRY_MS : SALES_MS));
    }
  }

  // What will be there is there from the start, so that nothing moves.
  root.classList.add(...{ plain: ["signs"], development: ["operator", "claims"], demo: ["operator", "claims", "acts"] }[mode]);
  enter(phase);
  if (mode === "development") renew();
  setInterval(() => { countDown(); show(); }, 250);
  new ResizeObserver(draw).observe($("plot"));
  watchSales();
  watchStatus();
})();
