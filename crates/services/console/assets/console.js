"use strict";

// Draws the charts of a page, and shows the live numbers. Every page is complete without it.
(() => {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const charts = [];

  const count = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const percent = (share) => {
    const value = 100 * share;
    if (value < 0.0005) return "0 %";
    if (value < 0.1) return `${value.toFixed(3)} %`;
    return value < 10 ? `${value.toFixed(2)} %` : `${value.toFixed(1)} %`;
  };

  // The time in UTC, and at midnight the date.
  const time = (seconds) => {
    const text = new Date(seconds * 1000).toISOString();
    return seconds % 86400 === 0 ? text.slice(5, 10) : text.slice(11, 16);
  };

  const options = (chart, width) => {
    const isPercent = chart.unit === "percent";
    const show = (value) => (value == null ? "–" : isPercent ? percent(value) : count(Math.round(value)));
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    return {
      width,
      height: 220,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { points: { size: 6 } },
      scales: { y: { range: (_, least, greatest) => [0, greatest > 0 ? 1.1 * greatest : 1] } },
      axes: [
        { ...axis, space: 64, incrs: [60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400], values: (_, ticks) => ticks.map(time) },
        { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => (isPercent ? `${+(100 * tick).toPrecision(3)} %` : count(tick))) },
      ],
      series: [
        { label: "UTC", value: (_, seconds) => (seconds == null ? "–" : new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ")) },
        ...chart.lines.map((line, index) => ({
          label: line.label,
          stroke: color(`--s${(index % 6) + 1}`),
          width: 1.75,
          points: { show: (plot) => plot.data[0].length < 40, size: 4 },
          spanGaps: true,
          value: (_, value) => show(value),
        })),
      ],
    };
  };

  const data = (chart) => [chart.at, ...chart.lines.map((line) => line.values)];
  const plot = (figure, chart) => new uPlot(options(chart, figure.clientWidth), data(chart), figure);

  const draw = (figure, chart) => {
    const known = charts.find((it) => it.figure === figure);
    if (known) {
      known.chart = chart;
      known.plot.setData(data(chart));
    } else {
      charts.push({ figure, chart, plot: plot(figure, chart) });
    }
  };

  const redraw = () => {
    for (const it of charts) {
      it.plot.destroy();
      it.plot = plot(it.figure, it.chart);
    }
  };

  const text = (name, value) => {
    for (const element of document.querySelectorAll(`[data-live="${name}"]`)) {
      element.textContent = count(value);
      if (name === "open_incidents") element.classList.toggle("pill-on", value > 0);
    }
  };

  const show = (snapshot) => {
    text("open_incidents", snapshot.open_incidents);
    if (!document.getElementById("live")) return;
    for (const name of ["sent", "delivered", "bounced", "complained", "opened", "clicked"]) text(name, snapshot.hour[name]);
    const share = document.querySelector('[data-live-share="bounced"]');
    share.textContent = snapshot.hour.sent > 0 ? percent(snapshot.hour.bounced / snapshot.hour.sent) : "";
    const notice = document.querySelector("[data-live-notice]");
    notice.hidden = !snapshot.notice;
    notice.textContent = snapshot.notice;
    const list = document.querySelector("[data-live-incidents]");
    list.replaceChildren(...snapshot.incidents.map(incident));
    document.querySelector("[data-live-none]").hidden = snapshot.incidents.length > 0;
    const line = (label, name) => ({ label, values: snapshot.minutes.map((minute) => minute[name]) });
    draw(document.querySelector("[data-live-chart]"), {
      unit: "count",
      at: snapshot.minutes.map((minute) => minute.at),
      lines: [line("Delivered", "delivered"), line("Bounced", "bounced"), line("Opened", "opened")],
    });
  };

  const incident = (it) => {
    const [item, link, severity, title] = ["li", "a", "span", "span"].map((name) => document.createElement(name));
    link.href = `/incidents/${it.id}`;
    severity.className = `severity ${it.severity}`;
    severity.textContent = it.severity;
    title.textContent = it.title;
    link.append(severity, " ", title);
    item.append(link);
    return item;
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const figure of document.querySelectorAll("[data-chart]")) draw(figure, JSON.parse(figure.dataset.chart));
    const live = document.getElementById("live");
    if (live) show(JSON.parse(live.dataset.snapshot));
    if (document.querySelector("[data-live]")) {
      // The browser connects again by itself after an error.
      new EventSource("/live").onmessage = (event) => show(JSON.parse(event.data));
    }
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth !== width) redraw();
      width = innerWidth;
    });
    dark.addEventListener("change", redraw);
  });
})();
