//! The naive model's effects other than claims, settling by key and time: sales as a whole, documents.

use super::*;

impl Model {
    /// Everything whose key the side table remembers.
    pub(super) fn carry_out(&mut self, body: &Body<'static>) -> Result<Answer, Rejection> {
        match *body {
            Body::Extend(settle) => {
                let (number, at) = self.current(&settle, ClaimStatus::Held)?;
                let token = self.at().log_index;
                let more = self.sales[number].create.checkout_max_ms;
                let claim = &mut self.sales[number].claims[at];
                if claim.extended {
                    return Err(Rejection::ClaimGone {
                        status: ClaimStatus::Held,
                    });
                }
                claim.extended = true;
                claim.deadline_ms += more;
                claim.token = token;
                let view = self.sales[number].view_claim(at);
                self.event(number + 1, EventKind::ClaimExtended(view));
                Ok(Answer::Claim(number, at))
            }
            Body::Cancel(settle) => {
                let (number, at) = self.current(&settle, ClaimStatus::Confirmed)?;
                self.sales[number].claims[at].status = ClaimStatus::Cancelled;
                let view = self.sales[number].view_claim(at);
                self.event(number + 1, EventKind::ClaimCancelled(view));
                Ok(Answer::Claim(number, at))
            }
            Body::PutDocument(put) => self.put(&put),
            Body::DeleteDocument {
                document,
                version_expected,
            } => {
                let before = self
                    .documents
                    .get(document)
                    .ok_or(Rejection::VersionMismatch { version: 0 })?;
                if before.token != 0 {
                    return Err(Rejection::Leased {
                        leased_until_ms: before.leased_until_ms,
                    });
                }
                if before.version != version_expected {
                    return Err(Rejection::VersionMismatch {
                        version: before.version,
                    });
                }
                self.documents.remove(document);
                self.event(0, EventKind::DocumentChanged { version: 0 });
                Ok(Answer::Document(0, 0, 0))
            }
            Body::CheckDocument {
                document,
                version_expected,
            } => {
                let found = self.documents.get(document);
                let is = found.map_or((0, 0, 0), |is| (is.version, is.token, is.leased_until_ms));
                if is.0 == version_expected {
                    Ok(Answer::Document(is.0, is.1, is.2))
                } else {
                    Err(Rejection::VersionMismatch { version: is.0 })
                }
            }
            Body::LeaseDocument {
                document,
                fencing_token,
                lease_ms,
            } => self.lease(document, fencing_token, lease_ms),
            Body::CreateSale(create) => self.create(create),
            Body::OpenSale { sale } => self.switch(
                sale,
                &[SaleStatus::Scheduled, SaleStatus::Paused],
                SaleStatus::Open,
                EventKind::SaleOpened,
            ),
            Body::PauseSale { sale } => self.switch(
                sale,
                &[SaleStatus::Open],
                SaleStatus::Paused,
                EventKind::SalePaused,
            ),
            Body::CloseSale { sale } => {
                let from = [SaleStatus::Scheduled, SaleStatus::Open, SaleStatus::Paused];
                self.switch(sale, &from, SaleStatus::Closed, EventKind::SaleClosed)
            }
            Body::Restock { sale, units } => {
                let at = self.stock(sale, units)?;
                if self.sales[at].total as u64 + units as u64 > UNITS_MAX as u64 {
                    return Err(Rejection::OutOfRange { field: Field::Units });
                }
                let sale = &mut self.sales[at];
                sale.total += units;
                if sale.create.claims_max == 0 {
                    sale.claims_max = sale.claims_max.max(sale.total * 4);
                }
                self.event(at + 1, EventKind::SaleRestocked { units });
                Ok(Answer::Done)
            }
            Body::Withdraw { sale, units } => {
                let at = self.stock(sale, units)?;
                let units_available = self.sales[at].available();
                if units > units_available {
                    return Err(Rejection::UnitsInUse { units_available });
                }
                self.sales[at].total -= units;
                self.event(at + 1, EventKind::SaleWithdrawn { units });
                Ok(Answer::Done)
            }
            _ => unreachable!("judged before"),
        }
    }

    fn stock(&self, sale: u16, units: u32) -> Result<usize, Rejection> {
        let at = self.known(sale)?;
        if self.sales[at].status == SaleStatus::Closed {
            return Err(Rejection::SaleTransition {
                status: SaleStatus::Closed,
            });
        }
        if units == 0 {
            return Err(Rejection::OutOfRange { field: Field::Units });
        }
        Ok(at)
    }

    fn switch(
        &mut self,
        sale: u16,
        from: &[SaleStatus],
        to: SaleStatus,
        kind: EventKind,
    ) -> Result<Answer, Rejection> {
        let at = self.known(sale)?;
        if !from.contains(&self.sales[at].status) {
            return Err(Rejection::SaleTransition {
                status: self.sales[at].status,
            });
        }
        self.sales[at].status = to;
        self.event(at + 1, kind);
        Ok(Answer::Done)
    }

    /// Terms are taken as they come: which ones are refused is a table of its own, tested elsewhere.
    fn create(&mut self, create: CreateSale<'static>) -> Result<Answer, Rejection> {
        if self.find(create.sale).is_some() {
            return Err(Rejection::SaleExists);
        }
        self.sales.push(Sale {
            id: self.names[create.sale as usize].clone(),
            create,
            status: SaleStatus::Scheduled,
            total: create.units_total,
            claims_max: if create.claims_max == 0 {
                (create.units_total * 4).max(10_000)
            } else {
                create.claims_max
            },
            claims: Vec::new(),
            changed_index: 0,
        });
        let at = self.sales.len() - 1;
        self.event(at + 1, EventKind::SaleCreated);
        self.keep_hours(at);
        Ok(Answer::Done)
    }

    fn put(&mut self, put: &PutDocument<'static>) -> Result<Answer, Rejection> {
        let before = self.documents.get(put.document);
        let (version, token, leased_until_ms) = before.map_or((0, 0, 0), |before| {
            (before.version, before.token, before.leased_until_ms)
        });
        self.may_write(token, leased_until_ms, put.fencing_token)?;
        if version != put.version_expected {
            return Err(Rejection::VersionMismatch { version });
        }
        let at = self.at();
        let version = at.log_index * 65_536 + at.position as u64;
        let expires_at_ms = if put.ttl_ms == 0 {
            0
        } else {
            at.log_time_ms + put.ttl_ms
        };
        let document = Document {
            body: put.body.to_vec(),
            version,
            token,
            leased_until_ms,
            expires_at_ms,
        };
        self.documents.insert(put.document.to_vec(), document);
        self.event(0, EventKind::DocumentChanged { version });
        Ok(Answer::Document(version, token, leased_until_ms))
    }

    fn may_write(&self, token: u64, leased_until_ms: u64, presented: u64) -> Result<(), Rejection> {
        if presented == token {
            return Ok(());
        }
        if presented == 0 {
            return Err(Rejection::Leased { leased_until_ms });
        }
        Err(Rejection::StaleToken { fencing_token: token })
    }

    fn lease(&mut self, key: &[u8], presented: u64, lease_ms: u64) -> Result<Answer, Rejection> {
        if presented == 0 && lease_ms == 0 {
            return Err(Rejection::OutOfRange {
                field: Field::LeaseMs,
            });
        }
        let at = self.at();
        let before = self
            .documents
            .get(key)
            .ok_or(Rejection::VersionMismatch { version: 0 })?;
        self.may_write(before.token, before.leased_until_ms, presented)?;
        let document = self.documents.get_mut(key).unwrap();
        if lease_ms == 0 {
            (document.token, document.leased_until_ms) = (0, 0);
        } else {
            if presented == 0 {
                document.token = at.log_index;
            }
            document.leased_until_ms = at.log_time_ms + lease_ms;
        }
        let Document {
            version,
            token,
            leased_until_ms,
            ..
        } = *document;
        self.event(0, EventKind::DocumentChanged { version });
        Ok(Answer::Document(version, token, leased_until_ms))
    }
}
