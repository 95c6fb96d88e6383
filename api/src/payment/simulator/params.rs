//! Parameters of the calls that change something, read and checked for shape.

use std::collections::BTreeMap;

use super::{
    currency,
    error::ApiError,
    form::Form,
    magic::{self, Magic},
    object::Intent,
};

/// Parameters that Stripe knows and that have no bearing here.
const WITHOUT_BEARING: &[&str] = &[
    "automatic_payment_methods",
    "confirmation_method",
    "customer",
    "error_on_requires_action",
    "mandate_data",
    "off_session",
    "payment_method_options",
    "payment_method_types",
    "radar_options",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
    "use_stripe_sdk",
];

/// What a payment is made of.
#[derive(Clone, Debug)]
pub(super) struct Create {
    pub(super) amount: u64,
    pub(super) currency: &'static str,
    pub(super) manual: bool,
    pub(super) confirm: bool,
    pub(super) payment_method: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) description: Option<String>,
    pub(super) return_url: Option<String>,
    pub(super) expand: bool,
}

impl Create {
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Create, ApiError> {
        let known: &[&str] = &[
            "amount",
            "capture_method",
            "confirm",
            "currency",
            "description",
            "expand",
            "metadata",
            "payment_method",
            "return_url",
        ];
        let form = Form::new(pairs, &[known, WITHOUT_BEARING])?;
        form.required("amount")?;
        let amount = form.integer("amount")?.unwrap_or_default();
        let currency = form.currency()?;
        check_amount(amount, currency)?;
        let confirm = form.boolean("confirm")?;
        let return_url = form.owned("return_url");
        if return_url.is_some() && !confirm {
            return Err(ApiError::param(
                "parameter_invalid",
                "return_url",
                "return_url belongs to the confirmation: give it there, or with confirm=true",
            ));
        }
        let capture_method = form.one_of("capture_method", &["automatic", "automatic_async", "manual"])?;
        Ok(Create {
            amount,
            currency,
            manual: capture_method == Some("manual"),
            confirm,
            payment_method: payment_method(&form)?,
            metadata: form.metadata()?,
            description: form.owned("description"),
            return_url,
            expand: form.expands("latest_charge"),
        })
    }

    pub(super) fn magic(&self) -> Magic {
        magic::of(self.payment_method.as_deref(), self.amount)
    }
}

fn check_amount(amount: u64, currency: &'static str) -> Result<(), ApiError> {
    let least = currency::amount_min(currency);
    if amount < least {
        let words = format!("Amount must be at least {least} in minor units of {currency}");
        return Err(ApiError::param("amount_too_small", "amount", words));
    }
    if amount > currency::AMOUNT_MAX {
        let words = format!("Amount must be no more than {}", currency::AMOUNT_MAX);
        return Err(ApiError::param("amount_too_large", "amount", words));
    }
    currency::check_multiple(amount, currency, "amount")
}

fn payment_method(form: &Form<'_>) -> Result<Option<String>, ApiError> {
    let Some(token) = form.text("payment_method") else {
        return Ok(None);
    };
    match magic::of_token(token) {
        Some(_) => Ok(Some(token.to_owned())),
        None => Err(ApiError::missing("PaymentMethod", "payment_method", token)),
    }
}

/// What a confirmation may add.
#[derive(Clone, Debug)]
pub(super) struct Confirm {
    pub(super) payment_method: Option<String>,
    pub(super) return_url: Option<String>,
    pub(super) expand: bool,
}

impl Confirm {
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Confirm, ApiError> {
        let form = Form::new(
            pairs,
            &[&["payment_method", "return_url", "expand"], WITHOUT_BEARING],
        )?;
        Ok(Confirm {
            payment_method: payment_method(&form)?,
            return_url: form.owned("return_url"),
            expand: form.expands("latest_charge"),
        })
    }

    pub(super) fn magic(&self, intent: &Intent) -> Magic {
        match &self.payment_method {
            Some(method) => magic::of(Some(method), intent.amount),
            None => intent.magic,
        }
    }
}

/// How much is captured.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    pub(super) amount: Option<u64>,
    pub(super) expand: bool,
}

impl Capture {
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Capture, ApiError> {
        let known: &[&str] = &[
            "amount_to_capture",
            "expand",
            "final_capture",
            "metadata",
            "statement_descriptor",
            "statement_descriptor_suffix",
        ];
        let form = Form::new(pairs, &[known])?;
        let amount = form.integer("amount_to_capture")?;
        if amount == Some(0) {
            let words = "Nothing cannot be captured; cancel the payment instead";
            return Err(ApiError::param(
                "parameter_invalid_integer",
                "amount_to_capture",
                words,
            ));
        }
        Ok(Capture {
            amount,
            expand: form.expands("latest_charge"),
        })
    }
}

/// Why a payment is cancelled, as the caller says.
pub(super) fn cancellation(pairs: &[(String, String)]) -> Result<Option<&'static str>, ApiError> {
    let form = Form::new(pairs, &[&["cancellation_reason", "expand"]])?;
    form.one_of(
        "cancellation_reason",
        &["abandoned", "duplicate", "fraudulent", "requested_by_customer"],
    )
}

/// What a refund is made of.
#[derive(Clone, Debug)]
pub(super) struct NewRefund {
    pub(super) payment_intent: Option<String>,
    pub(super) charge: Option<String>,
    pub(super) amount: Option<u64>,
    pub(super) reason: Option<&'static str>,
    pub(super) metadata: BTreeMap<String, String>,
}

impl NewRefund {
    pub(super) fn read(pairs: &[(String, String)]) -> Result<NewRefund, ApiError> {
        let known: &[&str] = &[
            "amount",
            "charge",
            "currency",
            "expand",
            "instructions_email",
            "metadata",
            "payment_intent",
            "reason",
            "refund_application_fee",
            "reverse_transfer",
        ];
        let form = Form::new(pairs, &[known])?;
        let (payment_intent, charge) = (form.owned("payment_intent"), form.owned("charge"));
        if payment_intent.is_none() == charge.is_none() {
            let words = "Give either payment_intent or charge, and not both";
            return Err(ApiError::param("parameter_missing", "payment_intent", words));
        }
        let amount = form.integer("amount")?;
        if amount == Some(0) {
            let words = "A refund is at least one minor unit";
            return Err(ApiError::param("parameter_invalid_integer", "amount", words));
        }
        Ok(NewRefund {
            payment_intent,
            charge,
            amount,
            reason: form.one_of("reason", &["duplicate", "fraudulent", "requested_by_customer"])?,
            metadata: form.metadata()?,
        })
    }
}
