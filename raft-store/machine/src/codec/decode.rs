//! Reading batches.

use super::{
    BATCH_COMMANDS_MAX, DecodeError, FOLLOWS, HEADER_BYTES, MACHINE_VERSION, MACHINE_VERSION_CHAINS,
    PRINCIPAL_IS_USER, TIME_MS_MAX, tag,
};
use crate::{
    bytes::{Reader, invalid},
    command::{
        Body, ClaimId, Command, CreateSale, Found, LogMs, Namespace, Operation, PutDocument, Resolve, Settle,
        Take, WallMs,
    },
};

/// A batch in its bytes. Parsing checks the header and the sale table; commands are checked as they are read.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The version of the machine that it needs: its commands mean what they meant then.
    pub version: u16,
    /// Log time it was stamped with.
    pub log_time_ms: LogMs,
    /// Wall time it was stamped with.
    pub wall_time_ms: WallMs,
    /// How many commands it has.
    pub count: u32,
    bytes: &'a [u8],
    sales: u16,
    commands_at: usize,
    base_ms: LogMs,
}

impl<'a> Batch<'a> {
    /// Reads the header.
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, DecodeError> {
        let mut reader = Reader::new(bytes, 0);
        let version = reader.u16()?;
        if version > MACHINE_VERSION {
            return Err(DecodeError::Newer { version });
        }
        if version == 0 || reader.u16()? != 0 {
            return invalid(reader.at() - 2);
        }
        let log_time_ms = reader.u64()?;
        let wall_time_ms = reader.u64()?;
        if log_time_ms > TIME_MS_MAX || wall_time_ms > TIME_MS_MAX {
            return invalid(reader.at() - 16);
        }
        let base_ms = reader.u64()?;
        let count = reader.u32()?;
        if count > BATCH_COMMANDS_MAX {
            return invalid(reader.at() - 4);
        }
        let sales = reader.u16()?;
        for _ in 0..sales {
            sale_name(&mut reader)?;
        }
        Ok(Batch {
            version,
            log_time_ms,
            wall_time_ms,
            count,
            bytes,
            sales,
            commands_at: reader.at(),
            base_ms,
        })
    }

    /// The sales its commands name, in the order of their places.
    pub fn sales(&self) -> impl Iterator<Item = (Namespace, &'a str)> + 'a {
        let mut reader = Reader::new(self.bytes, HEADER_BYTES + 2);
        // `parse` has read the same names, so none is missing here.
        (0..self.sales).map_while(move |_| sale_name(&mut reader).ok())
    }

    /// Its commands, in order. Ends after the first error; bytes beyond the last command are one.
    pub fn commands(&self) -> impl Iterator<Item = Result<Command<'a>, DecodeError>> + 'a {
        let mut commands = Commands {
            reader: Reader::new(self.bytes, self.commands_at),
            sales: self.sales,
            version: self.version,
        };
        let (base_ms, mut left, mut ended) = (self.base_ms, self.count, false);
        core::iter::from_fn(move || {
            if ended {
                return None;
            }
            if left == 0 {
                ended = true;
                return commands.reader.end().err().map(Err);
            }
            left -= 1;
            let command = commands.command(base_ms);
            ended = command.is_err();
            Some(command)
        })
    }
}

/// Reads commands, whose sales must be in the table.
struct Commands<'a> {
    reader: Reader<'a>,
    sales: u16,
    version: u16,
}

/// Reads one entry of the table of sales.
fn sale_name<'a>(reader: &mut Reader<'a>) -> Result<(Namespace, &'a str), DecodeError> {
    let namespace = reader.u16()?;
    let bytes = reader.u8()?;
    let at = reader.at();
    let id = reader.take(usize::from(bytes))?;
    core::str::from_utf8(id)
        .map(|id| (namespace, id))
        .or_else(|_| invalid(at))
}

impl<'a> Commands<'a> {
    fn sale(&mut self) -> Result<u16, DecodeError> {
        let at = self.reader.at();
        let place = self.reader.u16()?;
        if place < self.sales {
            Ok(place)
        } else {
            invalid(at)
        }
    }

    fn command(&mut self, base_ms: LogMs) -> Result<Command<'a>, DecodeError> {
        let at = self.reader.at();
        let tag = self.reader.u8()?;
        let short = tag & PRINCIPAL_IS_USER != 0;
        let follows = tag & FOLLOWS != 0;
        let tag = tag & !(PRINCIPAL_IS_USER | FOLLOWS);
        if short && tag != tag::CLAIM && tag != tag::DECREMENT {
            return invalid(at);
        }
        // An older machine knows neither, so a batch for it has neither.
        if (follows || tag == tag::CHECK_DOCUMENT) && self.version < MACHINE_VERSION_CHAINS {
            return invalid(at);
        }
        let key = self.reader.key()?;
        let named = if short { None } else { Some(self.reader.u128()?) };
        let not_after_ms = base_ms.wrapping_add(self.reader.signed()? as u64);
        let body = self.body(tag, at)?;
        let principal = match (named, &body) {
            (None, Body::Claim(take) | Body::Decrement(take)) => take.user,
            (named, _) => named.unwrap_or_default(),
        };
        Ok(Command {
            follows,
            principal,
            key,
            not_after_ms,
            body,
        })
    }

    fn body(&mut self, tag: u8, tag_at: usize) -> Result<Body<'a>, DecodeError> {
        Ok(match tag {
            tag::FOUND => Body::Found(Found {
                cluster_id: self.reader.u128()?,
                secret: self.reader.u128()?,
                incarnation: self.reader.number32()?,
            }),
            tag::CREATE_SALE => Body::CreateSale(self.create()?),
            tag::OPEN_SALE => Body::OpenSale { sale: self.sale()? },
            tag::PAUSE_SALE => Body::PauseSale { sale: self.sale()? },
            tag::CLOSE_SALE => Body::CloseSale { sale: self.sale()? },
            tag::RESTOCK => Body::Restock {
                sale: self.sale()?,
                units: self.reader.number32()?,
            },
            tag::WITHDRAW => Body::Withdraw {
                sale: self.sale()?,
                units: self.reader.number32()?,
            },
            tag::CLAIM => Body::Claim(self.units()?),
            tag::DECREMENT => Body::Decrement(self.units()?),
            tag::CONFIRM => Body::Confirm(self.settle()?),
            tag::RELEASE => Body::Release(self.settle()?),
            tag::EXTEND => Body::Extend(self.settle()?),
            tag::CANCEL => Body::Cancel(self.settle()?),
            tag::RESOLVE => Body::Resolve(Resolve {
                sale: self.sale()?,
                operation: self.operation()?,
                key: self.reader.key()?,
                fence_until_ms: self.reader.number()?,
            }),
            tag::PUT_DOCUMENT => Body::PutDocument(PutDocument {
                document: self.reader.field()?,
                body: self.reader.field()?,
                version_expected: self.reader.number()?,
                fencing_token: self.reader.number()?,
                ttl_ms: self.reader.number()?,
            }),
            tag::DELETE_DOCUMENT => Body::DeleteDocument {
                document: self.reader.field()?,
                version_expected: self.reader.number()?,
            },
            tag::LEASE_DOCUMENT => Body::LeaseDocument {
                document: self.reader.field()?,
                fencing_token: self.reader.number()?,
                lease_ms: self.reader.number()?,
            },
            tag::CHECK_DOCUMENT => Body::CheckDocument {
                document: self.reader.field()?,
                version_expected: self.reader.number()?,
            },
            _ => return invalid(tag_at),
        })
    }

    fn units(&mut self) -> Result<Take, DecodeError> {
        Ok(Take {
            sale: self.sale()?,
            user: self.reader.key()?,
            quantity: self.reader.number32()?,
        })
    }

    fn settle(&mut self) -> Result<Settle, DecodeError> {
        Ok(Settle {
            claim: ClaimId(self.reader.array()?),
            fencing_token: self.reader.number()?,
        })
    }

    fn operation(&mut self) -> Result<Operation, DecodeError> {
        let at = self.reader.at();
        Ok(match self.reader.u8()? {
            1 => Operation::Claim,
            2 => Operation::Decrement,
            3 => Operation::Confirm,
            4 => Operation::Release,
            5 => Operation::Extend,
            6 => Operation::Cancel,
            7 => Operation::Sale,
            8 => Operation::Document,
            _ => return invalid(at),
        })
    }

    fn create(&mut self) -> Result<CreateSale<'a>, DecodeError> {
        let sale = self.sale()?;
        let at = self.reader.at();
        let name = self.reader.field()?;
        let name = core::str::from_utf8(name).or_else(|_| invalid(at))?;
        Ok(CreateSale {
            sale,
            name,
            units_total: self.reader.number32()?,
            per_user_units_max: self.reader.number32()?,
            hold_ms: self.reader.number()?,
            checkout_max_ms: self.reader.number()?,
            opens_at_ms: self.reader.number()?,
            closes_at_ms: self.reader.number()?,
            price_minor: self.reader.number()?,
            currency: self.reader.array()?,
            claims_max: self.reader.number32()?,
        })
    }
}
