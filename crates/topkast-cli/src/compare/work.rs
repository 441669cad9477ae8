//! Doing the runs of a plan: each as a process of its own, so many at once, until all are done or someone says stop.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use topkast_train::RunDir;

use super::plan::{Plan, Run, State};
use super::progress::Progress;
use crate::failure::Failure;

/// How often running processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many at once, and with how many threads each.
#[derive(Clone, Copy)]
pub(super) struct Resources {
    pub(super) jobs: usize,
    pub(super) threads: usize,
}

/// How the work ended.
pub(super) enum Outcome {
    Done,
    /// So many runs failed.
    Failed(usize),
    /// Asked to stop; every run that was under way has written its checkpoint.
    Stopped,
}

/// A run's process.
struct Process<'a> {
    run: &'a Run,
    child: Child,
    started: Instant,
}

/// Makes every run of `plan` that is not done yet.
pub(super) fn work(
    plan: &Plan,
    resources: Resources,
    stop: &AtomicBool,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let mut waiting: VecDeque<&Run> = VecDeque::new();
    for run in &plan.runs {
        match run.state()? {
            State::Done(summary) => progress.was_done(run, &summary),
            State::New | State::Begun => waiting.push_back(run),
        }
    }
    progress.begin(waiting.len());
    let mut running: Vec<Process> = Vec::new();
    let (mut failed, mut told) = (0, false);
    // Those that a process of someone else trains, maybe of a compare that was killed, come when they are free.
    let taken = |run: &Run| RunDir::in_use(&run.path);
    while !(waiting.is_empty() && running.is_empty()) {
        if stop.load(Ordering::Relaxed) {
            return stop_all(running).map(|()| Outcome::Stopped);
        }
        while running.len() < resources.jobs
            && let Some(next) = waiting.iter().position(|run| !taken(run))
        {
            let run = waiting.remove(next).expect("a position in it");
            match start(plan, run, resources.threads) {
                Ok(Some(child)) => running.push(Process { run, child, started: Instant::now() }),
                Ok(None) => progress.finished_elsewhere(run),
                Err(failure) => {
                    stop_all(running)?;
                    return Err(failure);
                }
            }
        }
        if running.is_empty() && !waiting.is_empty() && !told {
            progress.waits(waiting[0]);
            told = true;
        }
        sleep(LOOK_EVERY);
        let mut index = 0;
        while index < running.len() {
            let Some(status) = running[index].child.try_wait()? else {
                index += 1;
                continue;
            };
            let Process { run, started, .. } = running.swap_remove(index);
            match run.state() {
                Ok(State::Done(summary)) if status.success() => {
                    progress.done(run, &summary, started.elapsed())
                }
                Ok(State::Done(_)) => progress.finished_elsewhere(run),
                // Someone else's process had started there, and took the lock first.
                _ if taken(run) => waiting.push_back(run),
                _ => {
                    failed += 1;
                    progress.failed(run, &reason(&run.path, status));
                }
            }
        }
    }
    Ok(if failed == 0 { Outcome::Done } else { Outcome::Failed(failed) })
}

/// Starts a run, or goes on with it; `None` if someone else has finished it.
fn start(plan: &Plan, run: &Run, threads: usize) -> Result<Option<Child>, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("train").args(["--threads", &threads.to_string()]);
    match run.state()? {
        State::Done(_) => return Ok(None),
        State::Begun => command.arg("--resume").arg(&run.path),
        State::New => {
            command.arg("--out").arg(&run.path).args(["--seed", &run.seed.to_string()]);
            command.args(run.settings.iter().flat_map(|setting| ["--set", setting]));
            command.args(plan.sweep.base_config())
        }
    };
    let told = |error: io::Error| Failure::Failed(format!("cannot start {}: {error}", run.name));
    let log = log_of(&run.path).map_err(told)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Ctrl-C on a terminal is for us alone, who tell each process once: told twice, it would end without a checkpoint.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map(Some).map_err(told)
}

/// What `train` prints goes to the end of `train.log` in the run's directory.
fn log_of(path: &Path) -> io::Result<File> {
    fs::create_dir_all(path)?;
    OpenOptions::new().create(true).append(true).open(path.join("train.log"))
}

/// Why a run did not end well: the last line it printed, or how its process ended.
fn reason(path: &Path, status: ExitStatus) -> String {
    let log = fs::read(path.join("train.log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    match (status.code(), log.lines().next_back()) {
        (Some(_), Some(line)) => line.trim_start_matches("error: ").to_owned(),
        _ => format!("its process ended with {status}"),
    }
}

/// Has every process write its checkpoint and waits until it has.
fn stop_all(mut running: Vec<Process>) -> Result<(), Failure> {
    running.iter().for_each(|process| interrupt(&process.child));
    for process in &mut running {
        process.child.wait()?;
    }
    Ok(())
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    // It fails where the process has ended by itself, which is as good: until waited for, nothing else has its number.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT);
}

/// Elsewhere the terminal has told them.
#[cfg(not(unix))]
fn interrupt(_: &Child) {}
