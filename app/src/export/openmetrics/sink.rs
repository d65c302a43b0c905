//! What a recording comes to, as metrics: printed at its end.

use super::text::Dialect;
use super::{Limits, Metrics};
use crate::export::follow::World;
use crate::export::sink::Sink;
use crate::model::ids::VcpuKey;
use crate::model::session::Session;
use crate::model::tick::{Phase, Tick};
use crate::model::totals::Totals;
use crate::record::End;
use std::io::{self, Write};

/// Writes metrics.
#[derive(Debug)]
pub struct MetricsSink<W> {
    out: W,
    dialect: Dialect,
    metrics: Metrics,
}

impl<W: Write> MetricsSink<W> {
    /// Into this.
    pub fn new(out: W, dialect: Dialect, limits: Limits) -> Self {
        Self { out, dialect, metrics: Metrics::new(Session::default(), limits) }
    }
}

impl<W: Write> Sink for MetricsSink<W> {
    fn session(&mut self, world: &World) -> io::Result<()> {
        self.metrics.session(world.session.clone());
        Ok(())
    }

    fn known(&mut self, _: &World, _: u64, totals: &Totals) -> io::Result<()> {
        self.metrics.known(totals);
        Ok(())
    }

    fn tick(&mut self, _: &World, tick: &Tick, _: &[(VcpuKey, Phase)]) -> io::Result<()> {
        self.metrics.apply(tick);
        Ok(())
    }

    fn end(&mut self, _: &World, _: &End) -> io::Result<()> {
        self.out.write_all(self.metrics.render(self.dialect).as_bytes())?;
        self.out.flush()
    }
}
