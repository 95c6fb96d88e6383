//! Where a test may end a process in the middle of a checkout: before and after everything that it does in the
//! world. Nothing at all in whatever is shipped.

use fault_points::crash_point;

use super::terms::Effect;

/// It is about to be done.
pub(super) fn before(effect: Effect) {
    match effect {
        Effect::Create => crash_point!("payment-create-begins"),
        Effect::Authorize => crash_point!("payment-confirm-begins"),
        Effect::Retrieve => crash_point!("payment-look-begins"),
        Effect::ConfirmClaim => crash_point!("claim-confirm-begins"),
        Effect::Capture => crash_point!("payment-capture-begins"),
        Effect::CancelClaim => crash_point!("claim-return-begins"),
        Effect::Void => crash_point!("payment-void-begins"),
        Effect::Refund => crash_point!("payment-refund-begins"),
        Effect::RecordPaid => crash_point!("order-begins"),
        Effect::Close => crash_point!("attempt-close-begins"),
        Effect::RecordCancelled => crash_point!("order-cancel-begins"),
        // An extension goes with the beginning; by itself only where the answer to that was lost.
        Effect::Extend | Effect::CheckTurn | Effect::LookAtClaim => {}
    }
}

/// It was done, or not: nobody knows yet.
pub(super) fn after(effect: Effect) {
    match effect {
        Effect::Create => crash_point!("payment-created"),
        Effect::Authorize => crash_point!("payment-confirmed"),
        Effect::Retrieve => crash_point!("payment-looked-at"),
        Effect::ConfirmClaim => crash_point!("claim-confirmed"),
        Effect::Capture => crash_point!("payment-captured"),
        Effect::CancelClaim => crash_point!("claim-returned"),
        Effect::Void => crash_point!("payment-voided"),
        Effect::Refund => crash_point!("payment-refunded"),
        Effect::RecordPaid => crash_point!("order-written"),
        Effect::Close => crash_point!("attempt-closed"),
        Effect::RecordCancelled => crash_point!("order-cancelled"),
        Effect::Extend | Effect::CheckTurn | Effect::LookAtClaim => {}
    }
}
