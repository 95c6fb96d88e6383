//! Reads: linearizable ones from the leader, others from any node in turn.

use std::{future::Future, time::Duration};

use proto::v1::{self, GetClaimRequest, GetSaleRequest, ListClaimsRequest, ListSalesRequest, ResolveRequest};
use tokio::time::timeout_at;
use tonic::{Response, Status};

use crate::{
    Client, Error, Reason,
    call::inventory,
    channel::Channel,
    convert,
    leader::{Repeat, timed},
    model::{Claim, Consistency, Operation, Position, Resolution, Sale},
};

impl Client {
    pub(crate) async fn read<T, F, C>(&self, consistency: Consistency, call: C) -> Result<T, Error>
    where
        C: Fn(Channel, Duration) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = self.shared.deadline();
        match consistency {
            Consistency::Linearizable => self.shared.nodes.on_leader(deadline, Repeat::Safe, call).await,
            Consistency::Bounded(_) | Consistency::Local => self.shared.nodes.on_any(deadline, call).await,
        }
    }

    /// One sale. Linearizable reads of the same sale by this client and its clones share their way: all who ask while
    /// one is under way are answered by the next.
    ///
    /// # Errors
    /// [`Error::Rejected`] with [`Reason::SaleUnknown`]: there is none. [`Error::Unavailable`]: no node
    /// could answer so freshly.
    pub async fn get_sale(&self, sale_id: &str, consistency: Consistency) -> Result<(Sale, Position), Error> {
        if consistency != Consistency::Linearizable {
            return self.read_sale(sale_id, consistency).await;
        }
        let deadline = self.shared.deadline();
        let (client, name) = (self.clone(), sale_id.to_owned());
        let round = self.shared.sale_reads.join(sale_id, || async move {
            client.read_sale(&name, Consistency::Linearizable).await
        });
        match timeout_at(deadline, round).await {
            Ok(read) => read,
            Err(_) => Err(Error::unavailable("reads of this sale take too long")),
        }
    }

    async fn read_sale(&self, sale_id: &str, consistency: Consistency) -> Result<(Sale, Position), Error> {
        let request = GetSaleRequest {
            sale_id: sale_id.to_string(),
            consistency: Some(convert::consistency(consistency)),
        };
        let response = self
            .read(consistency, |channel, left| {
                let request = timed(request.clone(), left);
                async move { inventory(channel).get_sale(request).await }
            })
            .await
            .map_err(|error| naming(error, Reason::SaleUnknown))?;
        found_sale(response)
    }

    /// Sales after `after` in id order, without rehearsals.
    ///
    /// # Errors
    /// As [`Client::get_sale`], except that no sale is an empty list.
    pub async fn list_sales(
        &self,
        after: Option<&str>,
        limit: u32,
        consistency: Consistency,
    ) -> Result<(Vec<Sale>, Position), Error> {
        self.sales(after, limit, false, consistency).await
    }

    /// As [`Client::list_sales`], with rehearsals.
    ///
    /// # Errors
    /// As [`Client::list_sales`].
    pub async fn list_sales_and_rehearsals(
        &self,
        after: Option<&str>,
        limit: u32,
        consistency: Consistency,
    ) -> Result<(Vec<Sale>, Position), Error> {
        self.sales(after, limit, true, consistency).await
    }

    async fn sales(
        &self,
        after: Option<&str>,
        limit: u32,
        rehearsals: bool,
        consistency: Consistency,
    ) -> Result<(Vec<Sale>, Position), Error> {
        let request = ListSalesRequest {
            after: after.unwrap_or_default().to_string(),
            limit,
            consistency: Some(convert::consistency(consistency)),
            rehearsals,
        };
        let response = self
            .read(consistency, |channel, left| {
                let request = timed(request.clone(), left);
                async move { inventory(channel).list_sales(request).await }
            })
            .await?;
        let sales = response.sales.into_iter().map(convert::sale).collect();
        Ok((sales, response.position.unwrap_or_default()))
    }

    /// One claim and the sale it belongs to; when `user` is given, only if it is his.
    ///
    /// # Errors
    /// [`Error::Rejected`] with [`Reason::ClaimUnknown`]: there is none. [`Error::Unavailable`]: no node
    /// could answer so freshly.
    pub async fn get_claim(
        &self,
        claim_id: &str,
        user: Option<&str>,
        consistency: Consistency,
    ) -> Result<(Claim, String, Position), Error> {
        let request = GetClaimRequest {
            claim_id: claim_id.to_string(),
            user: user.unwrap_or_default().to_string(),
            consistency: Some(convert::consistency(consistency)),
        };
        let response = self
            .read(consistency, |channel, left| {
                let request = timed(request.clone(), left);
                async move { inventory(channel).get_claim(request).await }
            })
            .await
            .map_err(|error| naming(error, Reason::ClaimUnknown))?;
        let claim = response.claim.ok_or_else(|| Error::malformed("the claim"))?;
        Ok((
            convert::claim(claim),
            response.sale_id,
            response.position.unwrap_or_default(),
        ))
    }

    /// Claims of a sale from a rank (from one) on.
    ///
    /// # Errors
    /// As [`Client::get_sale`].
    pub async fn list_claims(
        &self,
        sale_id: &str,
        rank_from: u32,
        limit: u32,
        consistency: Consistency,
    ) -> Result<(Vec<Claim>, Position), Error> {
        self.claims(sale_id, rank_from, limit, String::new(), consistency)
            .await
    }

    /// A user's claims in a sale, newest first.
    ///
    /// # Errors
    /// As [`Client::get_sale`].
    pub async fn list_user_claims(
        &self,
        sale_id: &str,
        user: &str,
        limit: u32,
        consistency: Consistency,
    ) -> Result<(Vec<Claim>, Position), Error> {
        if user.is_empty() {
            // To the node that would mean everybody's.
            return Err(Error::invalid(
                "no user named; list_claims lists everybody's claims",
            ));
        }
        self.claims(sale_id, 0, limit, user.to_string(), consistency)
            .await
    }

    async fn claims(
        &self,
        sale_id: &str,
        rank_from: u32,
        limit: u32,
        user: String,
        consistency: Consistency,
    ) -> Result<(Vec<Claim>, Position), Error> {
        let request = ListClaimsRequest {
            sale_id: sale_id.to_string(),
            rank_from,
            limit,
            user,
            consistency: Some(convert::consistency(consistency)),
        };
        let response = self
            .read(consistency, |channel, left| {
                let request = timed(request.clone(), left);
                async move { inventory(channel).list_claims(request).await }
            })
            .await
            .map_err(|error| naming(error, Reason::SaleUnknown))?;
        let claims = response.claims.into_iter().map(convert::claim).collect();
        Ok((claims, response.position.unwrap_or_default()))
    }

    /// What became of a key, and what the answer reflects. `principal` is the user for claims.
    ///
    /// Afterwards the key can have no effect any more until the fence ends, by when every attempt that
    /// was made with it before is dead.
    ///
    /// # Errors
    /// [`Error::Rejected`]: the question is wrong, for instance there is no such sale.
    /// [`Error::Unavailable`]: no answer now; ask again.
    pub async fn resolve(
        &self,
        sale_id: &str,
        operation: Operation,
        key: &str,
        principal: &str,
    ) -> Result<(Resolution, Position), Error> {
        let request = ResolveRequest {
            sale_id: sale_id.to_string(),
            operation: operation.into(),
            key: key.to_string(),
            principal: principal.to_string(),
            ..ResolveRequest::default()
        };
        let (kind, position) = self.shared.resolve(request, self.shared.deadline()).await?;
        Ok((convert::resolution(kind), position))
    }
}

/// A read of one thing that is not there, where the node did not say so in our words.
pub(crate) fn naming(error: Error, missing: Reason) -> Error {
    match error {
        Error::Rejected(mut rejected) if rejected.reason == Reason::Unspecified => {
            rejected.reason = missing;
            Error::Rejected(rejected)
        }
        error => error,
    }
}

/// The sale in an answer.
pub(crate) fn found_sale(response: v1::GetSaleResponse) -> Result<(Sale, Position), Error> {
    let sale = response.sale.ok_or_else(|| Error::malformed("the sale"))?;
    Ok((convert::sale(sale), response.position.unwrap_or_default()))
}
