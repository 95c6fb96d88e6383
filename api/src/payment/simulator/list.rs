//! Reads: objects by id, and lists, newest first.

use serde_json::{Value, json};

use super::{
    call::Request,
    error::ApiError,
    form::Form,
    object::{Place, seconds},
    provider::Provider,
};

/// Objects on a page: by default, and at most.
const PAGE: (u64, u64) = (10, 100);

impl Provider {
    /// The road of a GET.
    pub(super) fn read(&self, request: &Request) -> Result<Value, ApiError> {
        let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let query = &request.form;
        match path[..] {
            ["v1", "payment_intents"] => {
                let form = Form::new(
                    query,
                    &[&["limit", "starting_after", "ending_before", "customer", "expand"]],
                )?;
                self.page(&form, "payment_intents", self.intents.len(), |position| {
                    Some(self.intent_json(position))
                })
            }
            ["v1", "payment_intents", id] => {
                let form = Form::new(query, &[&["client_secret", "expand"]])?;
                let position = self.intent_position(id)?;
                Ok(self.intent_json_with(position, form.expands("latest_charge")))
            }
            ["v1", "charges"] => {
                let form = of_payment(query)?;
                let wanted = form.text("payment_intent");
                self.page(&form, "charges", self.charges.len(), |position| {
                    let charge = &self.charges[position];
                    let of = &self.intents[charge.intent].id;
                    wanted
                        .is_none_or(|wanted| wanted == of)
                        .then(|| self.charge_json(position))
                })
            }
            ["v1", "charges", id] => match self.place(id) {
                Some(Place::Charge(position)) => Ok(self.charge_json(position)),
                _ => Err(ApiError::missing("charge", "id", id)),
            },
            ["v1", "refunds"] => {
                let form = of_payment(query)?;
                let (by_intent, by_charge) = (form.text("payment_intent"), form.text("charge"));
                self.page(&form, "refunds", self.refunds.len(), |position| {
                    let refund = &self.refunds[position];
                    let charge = &self.charges[refund.charge];
                    let wanted = by_intent.is_none_or(|id| id == self.intents[charge.intent].id)
                        && by_charge.is_none_or(|id| id == charge.id);
                    wanted.then(|| self.refund_json(position))
                })
            }
            ["v1", "refunds", id] => match self.place(id) {
                Some(Place::Refund(position)) => Ok(self.refund_json(position)),
                _ => Err(ApiError::missing("refund", "id", id)),
            },
            ["v1", "disputes", id] => match self.place(id) {
                Some(Place::Dispute(position)) => Ok(self.dispute_json(position)),
                _ => Err(ApiError::missing("dispute", "id", id)),
            },
            ["v1", "events"] | ["_", "events"] => self.events(query),
            ["v1", "events", id] => match self.mail.event(id) {
                Some(event) => Ok(parsed(&event.body)),
                None => Err(ApiError::missing("event", "id", id)),
            },
            ["_", "ledger"] => Ok(serde_json::to_value(self.ledger()).expect("a ledger is plain data")),
            ["_", "faults"] => Ok(self.faults_json()),
            _ => Err(ApiError::unknown_url("GET", &request.path)),
        }
    }

    fn events(&self, query: &[(String, String)]) -> Result<Value, ApiError> {
        let known: &[&str] = &[
            "limit",
            "starting_after",
            "ending_before",
            "type",
            "types",
            "created",
        ];
        let form = Form::new(query, &[known])?;
        let kinds: Vec<&str> = form
            .pairs()
            .filter(|(name, _)| *name == "type" || name.starts_with("types["))
            .map(|(_, kind)| kind)
            .collect();
        let since_s = form.integer("created[gte]")?.unwrap_or(0);
        self.page(&form, "events", self.mail.events.len(), |position| {
            let event = &self.mail.events[position];
            let wanted =
                (kinds.is_empty() || kinds.contains(&event.kind)) && seconds(event.created_ms) >= since_s;
            wanted.then(|| parsed(&event.body))
        })
    }

    /// One page of `count` objects, the last of which is the newest. Pages back with `starting_after`, and
    /// forward with `ending_before`.
    fn page(
        &self,
        form: &Form<'_>,
        name: &str,
        count: usize,
        object: impl Fn(usize) -> Option<Value>,
    ) -> Result<Value, ApiError> {
        let (default, most) = PAGE;
        let limit = form.integer("limit")?.unwrap_or(default);
        if !(1..=most).contains(&limit) {
            let words = format!("A page has 1 to {most} objects");
            return Err(ApiError::param("parameter_invalid_integer", "limit", words));
        }
        let limit = usize::try_from(limit).expect("checked just above");
        let bound = |param: &str| -> Result<Option<usize>, ApiError> {
            let Some(id) = form.text(param) else {
                return Ok(None);
            };
            let position = match (name, self.place(id)) {
                ("payment_intents", Some(Place::Intent(position)))
                | ("charges", Some(Place::Charge(position)))
                | ("refunds", Some(Place::Refund(position))) => Some(position),
                ("events", _) => self.mail.position(id),
                _ => None,
            };
            let missing = || ApiError::missing(name.trim_end_matches('s'), param, id);
            position.map(Some).ok_or_else(missing)
        };
        let (after, before) = (bound("starting_after")?, bound("ending_before")?);
        let mut data = Vec::new();
        let mut more = false;
        let mut take = |position: usize| {
            let Some(value) = object(position) else {
                return true;
            };
            more = data.len() == limit;
            if !more {
                data.push(value);
            }
            !more
        };
        if let Some(before) = before {
            (before + 1..count).all(&mut take);
            data.reverse();
        } else {
            (0..after.unwrap_or(count)).rev().all(&mut take);
        }
        Ok(json!({ "object": "list", "data": data, "has_more": more, "url": format!("/v1/{name}") }))
    }
}

fn of_payment(query: &[(String, String)]) -> Result<Form<'_>, ApiError> {
    let known: &[&str] = &[
        "limit",
        "starting_after",
        "ending_before",
        "payment_intent",
        "charge",
        "expand",
    ];
    Form::new(query, &[known])
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).expect("events are JSON")
}
