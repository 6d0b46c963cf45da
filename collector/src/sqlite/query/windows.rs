//! Reading the usage of one period as it was counted, for rating it once more.

use std::collections::BTreeMap;

use rusqlite::{Row, params};
use tollgate_collector_core::period::Period;
use tollgate_collector_core::plan::WindowUsage;
use tollgate_common::sketch::UniqueSketch;
use tollgate_common::{
    Aggregation, Detail, Dimensions, MeterName, Quantity, Scale, TenantId, Timestamp, Window,
    WindowWidth,
};

use super::{QueryError, Reader};

impl Reader {
    /// Hands over what counts of a tenant's usage in the windows that begin in a period.
    pub fn windows(
        &self,
        tenant: &TenantId,
        period: Period,
        mut take: impl FnMut(WindowUsage),
    ) -> Result<(), QueryError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT meter, window_start, window_secs, dimensions, aggregation, scale, quantity, last_order, detail
             FROM usage WHERE tenant = ?1 AND window_start >= ?2 AND window_start < ?3 AND refused = ''
             ORDER BY meter, window_start, dimensions",
        )?;
        let mut rows = statement.query(params![
            tenant.as_str(),
            period.start.millis(),
            period.end.millis()
        ])?;
        while let Some(row) = rows.next()? {
            take(window(row)?);
        }
        Ok(())
    }
}

fn window(row: &Row<'_>) -> Result<WindowUsage, QueryError> {
    let width = WindowWidth::from_secs(row.get(2)?).map_err(|_| QueryError::Range("window"))?;
    let start = Timestamp::from_millis(row.get(1)?);
    let dimensions: BTreeMap<String, String> = serde_json::from_str(
        row.get_ref(3)?
            .as_str()
            .map_err(|_| QueryError::Range("dimensions"))?,
    )
    .map_err(|_| QueryError::Range("dimensions"))?;
    let aggregation: String = row.get(4)?;
    let aggregation: Aggregation = aggregation
        .parse()
        .map_err(|_| QueryError::Range("aggregation"))?;
    let quantity: String = row.get(6)?;
    let units: i128 = quantity
        .parse()
        .map_err(|_| QueryError::Range("quantity"))?;
    let bytes: Vec<u8> = row.get(8)?;
    let detail = match aggregation {
        Aggregation::Unique => UniqueSketch::from_canonical(&bytes)
            .map(|sketch| Detail::Unique(sketch.into()))
            .map_err(|_| QueryError::Range("detail"))?,
        // What is billed of a distribution is its sum.
        _ => Detail::None,
    };
    Ok(WindowUsage {
        meter: MeterName::new(&row.get::<_, String>(0)?).map_err(|_| QueryError::Range("meter"))?,
        dimensions: Dimensions::new(dimensions).map_err(|_| QueryError::Range("dimensions"))?,
        window: Window::containing(start, width),
        aggregation,
        scale: Scale::new(row.get(5)?).map_err(|_| QueryError::Range("scale"))?,
        quantity: Quantity::new(units),
        detail,
        order: row.get(7)?,
    })
}
