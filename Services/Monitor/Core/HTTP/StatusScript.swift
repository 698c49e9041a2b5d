extension StatusPage {
  /// Asks for the state every second and draws it. Names come from robots: they are set as text, never as markup.
  static let script = """
    "use strict";
    const token = new URLSearchParams(location.search).get("token");
    const colors = { idle: "ok", working: "ok", unhealthy: "bad", stopped: "bad", offline: "warn", critical: "bad",
      warning: "warn", info: "info", complete: "ok", rollingOut: "info", rolledBack: "bad", superseded: "dim",
      running: "info", decided: "ok", cancelled: "warn", serving: "ok", notServing: "bad", unresponsive: "bad",
      unknown: "warn" };
    const words = { rollingOut: "rolling out", rolledBack: "rolled back", notServing: "not serving" };
    // Older than this, what the page shows is said to be old.
    const staleMillis = 10000;

    function element(tag, attributes, ...children) {
      const node = document.createElement(tag);
      for (const [name, value] of Object.entries(attributes || {})) {
        if (value !== undefined && value !== null) node.setAttribute(name, value);
      }
      for (const child of children) if (child !== undefined && child !== null) node.append(child);
      return node;
    }
    const badge = (word) => element("span", { class: "badge " + (colors[word] || "info") }, words[word] || word);
    const percent = (value) => (100 * value).toFixed(0) + " %";
    const figure = (rate) => rate.trials === 0 ? "no trials"
      : rate.successes + "/" + rate.trials + " = " + percent(rate.rate) + " (" + percent(rate.low) + " – " + percent(rate.high) + ")";
    function ago(millis, now) {
      if (!millis) return "never";
      const seconds = Math.max(0, Math.round((now - millis) / 1000));
      if (seconds < 90) return seconds + " s ago";
      if (seconds < 5400) return Math.round(seconds / 60) + " min ago";
      if (seconds < 172800) return Math.round(seconds / 3600) + " h ago";
      return Math.round(seconds / 86400) + " d ago";
    }

    // Drawn anew only where something changed, so that focus, selection and scrolling stay.
    const drawn = {};
    function draw(id, key, make) {
      const text = JSON.stringify(key);
      if (drawn[id] === text) return;
      drawn[id] = text;
      document.getElementById(id).replaceChildren(...make());
    }
    const empty = (text) => [element("p", { class: "dim" }, text)];
    function table(head, rows) {
      return [element("table", {},
        element("thead", {}, element("tr", {}, ...head.map(([text, kind]) => element("th", { scope: "col", class: kind }, text)))),
        element("tbody", {}, ...rows.map((cells) => element("tr", {},
          ...cells.map((cell, index) => element("td", { class: head[index][1] }, cell))))))];
    }
    function bar(rate) {
      const box = element("div", { class: "bar", role: "img", "aria-label": figure(rate) });
      if (rate.trials > 0) {
        const fill = element("i"), line = element("u");
        fill.style.width = 100 * rate.rate + "%";
        line.style.left = 100 * rate.low + "%";
        line.style.width = 100 * (rate.high - rate.low) + "%";
        box.append(fill, line);
      }
      return box;
    }

    // Why a robot stands still or may work, in the monitor's words and in its own.
    function why(r) {
      const words = [r.reason];
      if (r.stopReason !== r.reason) words.push(r.stopReason);
      if (r.resumeReason) words.push("resumed: " + r.resumeReason);
      if (r.unkept) words.push("ITS DISK REFUSES SOMETHING: " + r.unkept);
      return words.filter((text) => text).join("; ");
    }

    function show(s) {
      const count = (...states) => states.reduce((sum, state) => sum + (s.robotsByState[state] || 0), 0);
      const trials = s.versions.reduce((sum, version) => sum + version.total.trials, 0);
      const tiles = [[count("working") + " / " + s.robots.length, "robots at work"], [count("idle"), "robots idle"],
        [count("unhealthy", "stopped"), "robots out of the work"], [count("offline"), "robots offline"],
        [Object.values(s.openAlerts).reduce((sum, count) => sum + count, 0), "open alerts"], [trials, "policy trials"], [s.demonstrations.trials, "demonstrations"]];
      draw("tiles", tiles, () => tiles.map(([value, name]) =>
        element("div", { class: "tile" }, element("b", {}, String(value)), element("span", {}, name))));

      const minute = Math.floor(s.timeMillis / 10000);
      const open = Object.values(s.openAlerts).reduce((sum, count) => sum + count, 0);
      const more = open > s.alerts.length ? empty((open - s.alerts.length) + " more, less severe or older: fleet alerts") : [];
      draw("alerts", [s.alerts, open, s.alerts.length ? minute : 0], () => s.alerts.length === 0 ? empty("None.")
        : s.alerts.map((alert) => element("article", { class: "alert " + (colors[alert.severity] || "info") },
          badge(alert.severity), " ", element("strong", {}, alert.name),
          alert.state === "acknowledged" ? " (acknowledged)" : "",
          element("p", {}, alert.summary), element("p", { class: "dim" }, alert.remedy),
          element("p", { class: "dim" }, ago(alert.startedMillis, s.timeMillis)))).concat(more));

      const services = s.services.map((v) => [v.service, v.state, ago(v.answeredMillis, s.timeMillis), v.detail]);
      draw("services", services, () => table([["Service"], ["State"], ["Answered"], ["Detail", "wrap"]],
        services.map((v) => [v[0], badge(v[1]), v[2], v[3]])));

      const robots = s.robots.map((r) => [r.robot, r.facility, r.state, r.model, r.desired, r.successes, r.trials,
        r.consecutiveFailures, r.spooled, r.actionP99Millis.toFixed(1), r.link, ago(r.lastSeenMillis, s.timeMillis), why(r)]);
      const dropped = s.droppedEvents === 0 ? []
        : empty(s.droppedEvents + " safety events of robots that are not known were dropped: too many names.");
      draw("robots", [robots, s.droppedEvents], () => dropped.concat(robots.length === 0 ? empty("No robot was heard yet.") : table(
        [["Robot"], ["Facility"], ["State"], ["Model"], ["Successes", "n"], ["Failures in a row", "n"], ["Spooled", "n"],
          ["Action p99", "n"], ["Link"], ["Heartbeat"], ["Reason", "wrap"]],
        robots.map((r) => [r[0], r[1] || "–", badge(r[2]),
          (r[3] || "none") + (r[4] && r[4] !== r[3] ? " → " + r[4] : ""), r[5] + " / " + r[6], String(r[7]), String(r[8]),
          r[9] + " ms", r[10] || "–", r[11], r[12]]))));

      draw("versions", s.versions, () => s.versions.length === 0 ? empty("No trial with a policy yet.")
        : s.versions.map((version) => element("div", { class: "version" },
          element("div", { class: "head" }, version.version), bar(version.total),
          element("div", { class: "figure" }, figure(version.total)),
          ...version.tasks.flatMap((task) => [element("div", { class: "task" }, task.task), bar(task.rate),
            element("div", { class: "figure dim" }, figure(task.rate))]))));

      draw("releases", s.releases, () => s.releases.length === 0 ? empty("None.") : table(
        [["Version"], ["State"], ["Robots", "n"], ["Waiting", "n"], ["Before"], ["Evidence", "wrap"]],
        s.releases.map((r) => [r.version, badge(r.state), String(r.robots), String(r.waiting), r.previous || "none", r.evidence])));

      draw("experiments", s.experiments, () => s.experiments.length === 0 ? empty("None.")
        : s.experiments.map((e) => element("div", {},
          element("p", {}, element("strong", {}, e.candidate + " against " + e.baseline), " ", badge(e.state), " ", e.decision),
          element("div", { class: "version" },
            element("div", {}, e.baseline), bar(e.baselineRate), element("div", { class: "figure" }, figure(e.baselineRate)),
            element("div", {}, e.candidate), bar(e.candidateRate), element("div", { class: "figure" }, figure(e.candidateRate))),
          element("p", { class: "dim" }, e.explanation || "decided at " + e.trialsPerArm + " trials an arm"))));

      draw("models", s.models, () => s.models.length === 0 ? empty("None.") : table(
        [["Version"], ["Parent"], ["Tasks", "n"], ["Parameters", "n"]],
        s.models.map((m) => [m.version, m.parent || "–", String(m.tasks), m.parameters.toLocaleString("en")])));
    }

    // What of the page is old although the monitor answers: its own rounds, or who it asks.
    const round = { millis: 0, at: 0 };
    function staleness(s) {
      if (round.millis !== s.timeMillis) Object.assign(round, { millis: s.timeMillis, at: performance.now() });
      const old = [["the monitor's state", performance.now() - round.at]];
      for (const [what, millis] of [["trial counts (ingest)", s.countsMillis], ["releases and models (rollout)", s.rolloutMillis]]) {
        old.push([what, millis ? s.timeMillis - millis : Infinity]);
      }
      return old.filter(([, age]) => age > staleMillis)
        .map(([what, age]) => what + (age === Infinity ? ": never heard" : ": " + Math.round(age / 1000) + " s old")).join("; ");
    }

    async function refresh() {
      const live = document.getElementById("live");
      try {
        const answer = await fetch("/api/status" + (token ? "?token=" + encodeURIComponent(token) : ""),
          { cache: "no-store", signal: AbortSignal.timeout(5000) });
        if (!answer.ok) throw new Error("status " + answer.status);
        const s = await answer.json();
        show(s);
        const old = staleness(s);
        live.className = old ? "stale" : "";
        const text = old || "live";
        if (live.textContent !== text) live.textContent = text;
      } catch (error) {
        live.className = "stale";
        const text = "no answer from the monitor (" + error.message + "); trying again";
        if (live.textContent !== text) live.textContent = text;
      }
      setTimeout(refresh, 1000);
    }
    refresh();
    """
}
