/// The status page: plain HTML, one style sheet, one script; nothing comes from elsewhere.
enum StatusPage {
  static let html = """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>FleetLoop</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="/status.css">
    <script src="/status.js" defer></script>
    </head>
    <body>
    <header>
      <h1>FleetLoop</h1>
      <p id="live" role="status">Loading…</p>
    </header>
    <main>
      <section aria-label="Summary" id="tiles" class="tiles"></section>
      <section aria-labelledby="h-alerts"><h2 id="h-alerts">Open alerts</h2><div id="alerts"></div></section>
      <section aria-labelledby="h-services"><h2 id="h-services">Services</h2>
        <div class="scroll" id="services" tabindex="0" role="region" aria-labelledby="h-services"></div></section>
      <section aria-labelledby="h-robots"><h2 id="h-robots">Robots</h2>
        <div class="scroll" id="robots" tabindex="0" role="region" aria-labelledby="h-robots"></div></section>
      <section aria-labelledby="h-versions"><h2 id="h-versions">Success by version</h2>
        <p class="note">Trials with a policy; the bar shows the rate, the line its 95 % Wilson interval.</p>
        <div id="versions"></div></section>
      <div class="columns">
        <section aria-labelledby="h-releases"><h2 id="h-releases">Releases</h2>
          <div class="scroll" id="releases" tabindex="0" role="region" aria-labelledby="h-releases"></div></section>
        <section aria-labelledby="h-experiments"><h2 id="h-experiments">Experiments</h2><div id="experiments"></div></section>
      </div>
      <section aria-labelledby="h-models"><h2 id="h-models">Models</h2>
        <div class="scroll" id="models" tabindex="0" role="region" aria-labelledby="h-models"></div></section>
    </main>
    <noscript>This page needs its script; /api/status has the same as JSON.</noscript>
    </body>
    </html>
    """

  static let css = """
    :root { color-scheme: light dark; --bg: #f6f7f9; --card: #fff; --text: #14181f; --dim: #566070; --line: #dde1e7;
      --ok: #1a7f4b; --warn: #a35a00; --bad: #c1272d; --info: #2458c5; --track: #e7eaef; }
    @media (prefers-color-scheme: dark) { :root { --bg: #0f1216; --card: #181d24; --text: #e8ebf0; --dim: #9aa5b4;
      --line: #2b323c; --ok: #4cc38a; --warn: #f0a64a; --bad: #ff6b6b; --info: #7aa7ff; --track: #2a313b; } }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--bg); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
    header { display: flex; align-items: baseline; gap: 1rem; padding: 1rem clamp(1rem, 4vw, 2.5rem);
      border-bottom: 1px solid var(--line); background: var(--card); }
    h1 { font-size: 1.25rem; margin: 0; letter-spacing: -.01em; }
    h2 { font-size: 1rem; margin: 0 0 .6rem; }
    #live { margin: 0 0 0 auto; color: var(--dim); font-size: .875rem; }
    #live::before { content: ""; display: inline-block; width: .55rem; height: .55rem; margin-right: .45rem;
      border-radius: 50%; background: var(--ok); }
    #live.stale::before { background: var(--bad); }
    main { padding: 1.25rem clamp(1rem, 4vw, 2.5rem) 3rem; display: grid; gap: 1.25rem; max-width: 90rem; margin: auto; }
    section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.1rem; min-width: 0; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; padding: 0;
      background: none; border: 0; }
    .tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
    .tile b { display: block; font-size: 1.6rem; font-weight: 650; font-variant-numeric: tabular-nums; }
    .tile span, .note, .dim { color: var(--dim); font-size: .875rem; }
    .note { margin: -.3rem 0 .8rem; }
    .columns { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
    .scroll { overflow-x: auto; }
    table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
    th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
    td.wrap { white-space: normal; min-width: 12rem; }
    th { color: var(--dim); font-weight: 550; font-size: .8125rem; }
    th.n, td.n { text-align: right; }
    tbody tr:last-child td { border-bottom: 0; }
    .badge { display: inline-block; padding: .08rem .55rem; border-radius: 1rem; font-size: .8125rem; font-weight: 600;
      border: 1px solid currentColor; }
    .ok { color: var(--ok); } .warn { color: var(--warn); } .bad { color: var(--bad); } .info { color: var(--info); }
    .alert { border-left: .25rem solid; padding: .1rem 0 .1rem .8rem; margin: .7rem 0; }
    .alert p { margin: .15rem 0; color: var(--text); }
    .alert p.dim { color: var(--dim); }
    .version { display: grid; grid-template-columns: minmax(5rem, 12rem) minmax(4rem, 1fr) 13rem; gap: .15rem .9rem;
      align-items: center; margin-bottom: .9rem; }
    .version .task { padding-left: .9rem; color: var(--dim); font-size: .875rem; overflow: hidden; text-overflow: ellipsis; }
    .version .head { font-weight: 650; }
    .bar { position: relative; height: .7rem; border-radius: .35rem; background: var(--track); }
    .bar i { position: absolute; inset: 0 auto 0 0; border-radius: .35rem; background: var(--info); opacity: .75; }
    .bar u { position: absolute; top: 50%; height: 2px; margin-top: -1px; background: var(--text); }
    .figure { font-variant-numeric: tabular-nums; font-size: .875rem; white-space: nowrap; }
    :focus-visible { outline: 2px solid var(--info); outline-offset: 2px; }
    @media (max-width: 40rem) { .version { grid-template-columns: 1fr; } }
    """
}
