//! Reports as a browser shows them, on a phone and on a desktop, light and dark.
//!
//! Needs Chromium; without, it says so and passes, unless `TOPKAST_BROWSER=required`, as `.ci/run` has it where it can.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use common::{Workplace, succeeds};
use serde_json::Value;

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser that is installed.
fn browser() -> Option<&'static str> {
    let starts = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let found = BROWSERS.into_iter().find(starts);
    let required = std::env::var("TOPKAST_BROWSER").is_ok_and(|value| value == "required");
    assert!(found.is_some() || !required, "TOPKAST_BROWSER=required, but none of {BROWSERS:?} is installed");
    if found.is_none() {
        // Past what the test harness keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "\n*** SKIPPED: no browser to look at reports with; install chromium to run this check ***\n"
        );
    }
    found
}

/// What `check.html`, in the folder `place`, sees of these pages there.
fn seen(browser: &str, place: &Path, pages: &[&str]) -> Vec<Value> {
    fs::write(place.join("check.html"), include_str!("browser/check.html")).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"])
        .args([
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args(["--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=60000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("--dump-dom")
        .arg(format!("file://{}#{}", place.join("check.html").display(), pages.join(",")))
        .output()
        .unwrap();
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!log.contains("CONSOLE"), "the browser's console has messages: {log}");
    let json = dom.split_once("<pre id=\"seen\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (json, _) = json.unwrap_or_else(|| panic!("nothing was seen: {dom} {log}"));
    serde_json::from_str(json).unwrap()
}

/// What is wrong with a page as it was seen.
fn faults(page: &Value, charts: usize) -> Vec<String> {
    let number =
        |value: &Value, name: &str| value[name].as_f64().unwrap_or_else(|| panic!("no {name} in {value}"));
    let none = |value: &Value| value.as_array().unwrap().is_empty();
    let mut faults = Vec::new();
    let mut fault = |right: bool, what: String| faults.extend((!right).then_some(what));
    let inner = number(page, "innerWidth");
    fault(inner == number(page, "width"), format!("the frame is {inner} pixels wide"));
    fault(number(page, "scrollWidth") <= inner, format!("scrolls sideways: {}", page["scrollWidth"]));
    fault(none(&page["beyond"]), format!("stands out: {}", page["beyond"]));
    fault(number(page, "tables") >= 1.0, "no table".to_owned());
    let seen = page["charts"].as_array().unwrap();
    fault(seen.len() == charts, format!("{} charts, {charts} expected", seen.len()));
    for chart in seen {
        let title = &chart["title"];
        fault(number(chart, "marks") > 0.0, format!("{title}: no marks"));
        fault(
            number(chart, "width") > 250.0 && number(chart, "height") > 50.0,
            format!("{title}: small: {chart}"),
        );
        fault(number(chart, "text") >= 12.0, format!("{title}: text of {} pixels", chart["text"]));
        fault(none(&chart["overlapping"]), format!("{title}: overlapping: {}", chart["overlapping"]));
        fault(none(&chart["cut"]), format!("{title}: cut: {}", chart["cut"]));
    }
    faults
}

#[test]
fn reports_can_be_read_on_a_phone_and_a_desktop_light_and_dark() {
    let Some(browser) = browser() else { return };
    let place = Workplace::new();
    let settings = "model.hidden=[24,16] train.batch=64 train.steps=40 sparsity.refresh_every=2";
    succeeds(place.train("run", &format!("{settings} optimizer.penalty=0.1")));
    let mut all = vec!["run".to_owned()];
    for method in ["dense", "static", "set", "rigl"] {
        for seed in [1, 2] {
            let out = format!("{method}@80-and-a-long-name-that-goes-on-and-on/seed-{seed}");
            succeeds(place.train(&out, &format!("{settings} sparsity.method={method} seed={seed}")));
            all.push(out);
        }
    }
    succeeds(place.topkast(&format!("report {} --out several.html", all.join(" "))));
    let pages = seen(browser, &place.join(""), &["run/report.html", "several.html"]);
    assert_eq!(pages.len(), 8);
    let faults: Vec<String> = pages
        .iter()
        .flat_map(|page| {
            let about = format!("{} {} {}", page["page"], page["width"], page["scheme"]);
            let charts = if page["page"] == "several.html" { 11 } else { 9 };
            faults(page, charts).into_iter().map(move |fault| format!("{about}: {fault}"))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for pair in pages.chunks(2) {
        assert_ne!(
            pair[0]["background"], pair[1]["background"],
            "dark is as light: {}",
            pair[0]["background"]
        );
    }
}
