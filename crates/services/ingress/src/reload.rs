//! Reads the sources and the certificate again, when their files change and on SIGHUP.
//!
//! This has a thread of its own, so that requests do not wait for the disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context;
use metrics::{Gauge, gauge};
use service::{ConfigFile, FileWatcher, Service, Settings};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::handler::Ingress;
use crate::low_watermark::system_clock;
use crate::settings::IngressSettings;
use crate::sources::{SourceChanges, SourceName, SourcesError};
use crate::tls::{Tls, TlsFiles};

/// How often we look whether a file has changed. A change is applied after two looks with the same content.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The sections that the ingress reads only at start.
const FIXED_SECTIONS: [&str; 5] = ["service", "kafka", "topics", "privacy", "ingress"];

pub(crate) struct Reloader {
    ingress: Arc<Ingress>,
    sources: SourcesReloader,
    tls: Option<TlsReloader>,
}

/// Why something is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Hangup,
    FileChange,
}

/// Shows on the metrics whether what was read last is valid.
struct Outcome {
    is_successful: Gauge,
    succeeded_at: Gauge,
}

struct SourcesReloader {
    config_file: ConfigFile,
    /// The settings that this process was started with.
    started_with: Settings,
    has_pseudonyms: bool,
    watcher: FileWatcher,
    outcome: Outcome,
}

struct TlsReloader {
    tls: Arc<Tls>,
    watcher: FileWatcher,
    outcome: Outcome,
}

/// Receives SIGHUP, which would otherwise end the process.
///
/// # Errors
/// If the handler cannot be installed.
pub(crate) fn hangups(runtime: &Runtime) -> anyhow::Result<Receiver<()>> {
    let (sender, receiver): (SyncSender<()>, _) = sync_channel(1);
    let mut hangup = {
        let _entered = runtime.enter();
        signal(SignalKind::hangup()).context("the handler of SIGHUP cannot be installed")?
    };
    runtime.spawn(async move {
        while hangup.recv().await.is_some() {
            // If the channel is full, a reload that has not begun yet is enough.
            let _ = sender.try_send(());
        }
    });
    Ok(receiver)
}

impl Reloader {
    pub(crate) fn new(
        service: &Service,
        ingress: Arc<Ingress>,
        tls: Option<Arc<Tls>>,
        has_pseudonyms: bool,
    ) -> Self {
        let sources = SourcesReloader::new(service, has_pseudonyms);
        Self { ingress, sources, tls: tls.map(TlsReloader::new) }
    }

    /// Reloads until the process ends.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn start(mut self, hangups: Receiver<()>) -> io::Result<()> {
        let run = move || {
            loop {
                match hangups.recv_timeout(CHECK_INTERVAL) {
                    Ok(()) => {
                        tracing::info!(
                            "SIGHUP received; reading the sources and the certificate again"
                        );
                        self.reload(Trigger::Hangup);
                    }
                    Err(RecvTimeoutError::Timeout) => self.reload(Trigger::FileChange),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        std::thread::Builder::new().name("reload".to_owned()).spawn(run).map(drop)
    }

    fn reload(&mut self, trigger: Trigger) {
        if is_due(&mut self.sources.watcher, trigger) {
            self.sources.reload(&self.ingress, trigger);
        }
        if let Some(tls) = &mut self.tls
            && is_due(&mut tls.watcher, trigger)
        {
            tls.reload(trigger);
        }
    }
}

/// Returns whether the files must be read now.
fn is_due(watcher: &mut FileWatcher, trigger: Trigger) -> bool {
    match trigger {
        Trigger::FileChange => watcher.has_changed(),
        Trigger::Hangup => {
            watcher.take();
            true
        }
    }
}

impl Outcome {
    fn new(part: &'static str) -> Self {
        let outcome = Self {
            is_successful: gauge!("mailpulse_ingress_last_reload_successful", "part" => part),
            succeeded_at: gauge!("mailpulse_ingress_last_reload_success_timestamp_seconds",
                "part" => part),
        };
        outcome.succeeded();
        outcome
    }

    fn succeeded(&self) {
        self.is_successful.set(1.0);
        self.succeeded_at.set((system_clock().micros() / 1_000_000) as f64);
    }

    fn failed(&self) {
        self.is_successful.set(0.0);
    }
}

impl SourcesReloader {
    fn new(service: &Service, has_pseudonyms: bool) -> Self {
        let config_file = service.config_file.clone();
        let mut watcher = FileWatcher::default();
        // Nothing counts as read, because a file may have changed since the process has read it.
        watcher.watch(files(&config_file, &service.settings));
        Self {
            config_file,
            started_with: service.settings.clone(),
            has_pseudonyms,
            watcher,
            outcome: Outcome::new("sources"),
        }
    }

    /// Reads the settings and replaces the sources, if all of them are valid.
    fn reload(&mut self, ingress: &Ingress, trigger: Trigger) {
        let loaded = self.config_file.load();
        if let Ok(settings) = &loaded {
            // Also if they cannot be used: a file that is missing may come.
            self.watcher.watch(files(&self.config_file, settings));
        }
        match loaded.map_err(SourcesError::from).and_then(|settings| self.apply(&settings, ingress))
        {
            Ok(changes) => {
                self.outcome.succeeded();
                if trigger == Trigger::Hangup || changes != SourceChanges::default() {
                    changes.log(ingress.sources().len());
                }
            }
            Err(error) => {
                self.outcome.failed();
                tracing::error!(
                    code = error.code(),
                    %error,
                    "reloading the sources failed; the former sources stay in force until the mistake is \
                     corrected"
                );
            }
        }
    }

    fn apply(&self, settings: &Settings, ingress: &Ingress) -> Result<SourceChanges, SourcesError> {
        // With invalid settings, the next start would fail.
        let own = IngressSettings::read(settings)?;
        let (sources, changes) = ingress.sources().successor(settings)?;
        if sources.len() == 0 && ingress.sources().len() > 0 {
            return Err(SourcesError::AllRemoved);
        }
        let mappings = sources.mappings()?;
        let has_changed = changes != SourceChanges::default();
        if has_changed {
            sources.log_warnings();
            sources.log_protections(self.has_pseudonyms, own.trusted_proxies.len());
        }
        ingress.replace_sources(sources, mappings);
        let fixed = self.started_with.differences(settings, &FIXED_SECTIONS);
        if !fixed.is_empty() {
            tracing::warn!(
                code = "restart_needed",
                keys = fixed.join(" "),
                "settings have changed that are read only at start; restart the ingress to apply them"
            );
        }
        Ok(changes)
    }
}

/// Returns the configuration file, and the files to which its sources refer.
fn files(config_file: &ConfigFile, settings: &Settings) -> Vec<PathBuf> {
    let mut files = settings.files_of("source");
    files.push(config_file.path().to_owned());
    files
}

impl SourceChanges {
    fn log(&self, sources: usize) {
        let names = |names: &[SourceName]| {
            let names: Vec<_> = names.iter().map(SourceName::to_string).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(" ") }
        };
        tracing::info!(
            sources,
            added = names(&self.added),
            removed = names(&self.removed),
            changed = names(&self.changed),
            "sources reloaded"
        );
        if !self.mapping_kept.is_empty() {
            tracing::warn!(
                code = "mapping_needs_restart",
                sources = names(&self.mapping_kept),
                "`events`, `fields` or `kinds` of a source have changed; restart enrich and then the ingress \
                 to apply them, because enrich must have a mapping first"
            );
        }
    }
}

impl TlsReloader {
    fn new(tls: Arc<Tls>) -> Self {
        let mut watcher = FileWatcher::default();
        let TlsFiles { certificate, key } = tls.files().clone();
        watcher.watch([certificate, key]);
        Self { tls, watcher, outcome: Outcome::new("tls_certificate") }
    }

    fn reload(&self, trigger: Trigger) {
        match self.tls.reload() {
            Ok(has_changed) => {
                self.outcome.succeeded();
                if has_changed || trigger == Trigger::Hangup {
                    tracing::info!(has_changed, "certificate reloaded; new connections use it");
                }
            }
            Err(error) => {
                self.outcome.failed();
                tracing::error!(
                    code = error.code(),
                    %error,
                    "reloading the certificate failed; the former certificate stays in use"
                );
            }
        }
    }
}
