//! What was for sale: the first line of a history, and how it is read and written.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::problem::{MS_MAX, UNITS_MAX};

/// The only unit of `t`.
pub const TIME_UNIT: &str = "ns";

/// Which operations a history may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Schema {
    /// `inventory-history/1`: claims of one unit.
    One,
    /// `inventory-history/2`: all that the machine can do with units.
    Two,
}

impl Schema {
    /// As the header says it.
    pub fn name(self) -> &'static str {
        match self {
            Schema::One => "inventory-history/1",
            Schema::Two => "inventory-history/2",
        }
    }
}

/// One sale as it was before the first operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Units for sale.
    pub units: u64,
    /// How long a claim holds its units, in ms of log time.
    pub ttl_ms: u64,
    /// Most units a user may hold or have bought.
    pub per_user_units_max: u64,
    /// How far an extension may carry a hold beyond its deadline, in ms of log time.
    pub extend_ms: u64,
}

/// The first line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which operations may follow.
    pub schema: Schema,
    /// Hold time of every sale that does not say otherwise, in ms of log time.
    pub ttl_ms: u64,
    /// The sales by id.
    pub sales: BTreeMap<String, Sale>,
}

impl Header {
    /// A header of schema 1: one hold time, one unit for a user, and the units of each sale.
    pub fn one<S: Into<String>>(ttl_ms: u64, sales: impl IntoIterator<Item = (S, u64)>) -> Header {
        let sale = |units| Sale {
            units,
            ttl_ms,
            per_user_units_max: 1,
            extend_ms: 0,
        };
        Header {
            schema: Schema::One,
            ttl_ms,
            sales: sales
                .into_iter()
                .map(|(id, units)| (id.into(), sale(units)))
                .collect(),
        }
    }

    /// A header of schema 2, where each sale has its own limits.
    pub fn two<S: Into<String>>(ttl_ms: u64, sales: impl IntoIterator<Item = (S, Sale)>) -> Header {
        Header {
            schema: Schema::Two,
            ttl_ms,
            sales: sales.into_iter().map(|(id, sale)| (id.into(), sale)).collect(),
        }
    }
}

#[derive(Deserialize)]
struct HeaderLine {
    ty: String,
    schema: String,
    ttl_ms: u64,
    sales: BTreeMap<String, SaleLine>,
    time_unit: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SaleLine {
    Units(u64),
    Limits {
        units: u64,
        ttl_ms: Option<u64>,
        per_user_units_max: Option<u64>,
        #[serde(default)]
        extend_ms: u64,
    },
}

/// Reads the first line.
pub(super) fn parse(line: &[u8]) -> Result<Header, String> {
    let HeaderLine {
        ty,
        schema,
        ttl_ms,
        sales,
        time_unit,
    } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let known = [Schema::One, Schema::Two]
        .into_iter()
        .find(|known| known.name() == schema);
    let schema = known.ok_or_else(|| format!("schema {schema:?} is not known"))?;
    match time_unit.as_deref() {
        _ if ty != "header" => return Err(format!("its `ty` is {ty:?}")),
        None | Some(TIME_UNIT) => {}
        Some(other) => return Err(format!("`time_unit` is {other:?}; only {TIME_UNIT:?} is known")),
    }
    if sales.is_empty() {
        return Err("no sales".into());
    }
    let units = |sale: &SaleLine| match *sale {
        SaleLine::Units(units) | SaleLine::Limits { units, .. } => units,
    };
    if let Some((id, _)) = sales.iter().find(|(_, sale)| units(sale) > UNITS_MAX) {
        return Err(format!("sale {id:?} has more than {UNITS_MAX} units"));
    }
    let times = sales.values().flat_map(|sale| match *sale {
        SaleLine::Units(_) => [None, None],
        SaleLine::Limits {
            ttl_ms, extend_ms, ..
        } => [ttl_ms, Some(extend_ms)],
    });
    if let Some(ms) = times.flatten().chain([ttl_ms]).find(|&ms| ms > MS_MAX) {
        return Err(format!("a time of {ms} ms; at most {MS_MAX} can be meant"));
    }
    let sales = sales.into_iter().map(|(id, sale)| match sale {
        SaleLine::Units(units) => Ok((
            id,
            Sale {
                units,
                ttl_ms,
                per_user_units_max: 1,
                extend_ms: 0,
            },
        )),
        SaleLine::Limits { .. } if schema == Schema::One => {
            Err(format!("sale {id:?}: schema 1 gives units only"))
        }
        SaleLine::Limits {
            units,
            ttl_ms: own,
            per_user_units_max,
            extend_ms,
        } => {
            let sale = Sale {
                units,
                ttl_ms: own.unwrap_or(ttl_ms),
                per_user_units_max: per_user_units_max.unwrap_or(1),
                extend_ms,
            };
            Ok((id, sale))
        }
    });
    Ok(Header {
        schema,
        ttl_ms,
        sales: sales.collect::<Result<_, String>>()?,
    })
}

/// The header's line, written field by field because its `sales` are of two forms.
pub(super) fn line(header: &Header) -> String {
    let sales: serde_json::Map<String, serde_json::Value> = (header.sales.iter())
        .map(|(id, sale)| {
            let value = match header.schema {
                Schema::One => sale.units.into(),
                Schema::Two => serde_json::json!({
                    "units": sale.units,
                    "ttl_ms": sale.ttl_ms,
                    "per_user_units_max": sale.per_user_units_max,
                    "extend_ms": sale.extend_ms,
                }),
            };
            (id.clone(), value)
        })
        .collect();
    serde_json::json!({
        "ty": "header",
        "schema": header.schema.name(),
        "ttl_ms": header.ttl_ms,
        "sales": sales,
        "time_unit": TIME_UNIT,
    })
    .to_string()
}
