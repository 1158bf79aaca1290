//! Whose an answer is.

use super::answer::Token;
use super::{Failure, TokenEndpoint};
use crate::credential::Credential;
use crate::credential::account::Evidence;
use crate::credential::fields::Fields;
use crate::error::{Code, Error};
use crate::failure::FailureClass;
use serde_json::{Map, Value};

impl TokenEndpoint {
    /// Fills in the account that the answer is for, where the credential lacks it, and refuses another account's. Fields that the
    /// gate compares are left to it.
    pub(super) fn identify(
        &self,
        credential: &Credential,
        answer: &Fields,
        whole: &Map<String, Value>,
        access: Option<&str>,
        fields: &mut Fields,
    ) -> Result<(), Failure> {
        let found = Evidence::of(credential, Token::of(answer, "id_token").text(), access);
        if found.is_of_another() {
            return Err(self.is_anothers(credential));
        }
        found.fill_issuer_and_subject(fields);
        found.fill_account(&self.spec.identity_claims, [answer.values(), whole], fields);
        Ok(())
    }

    fn is_anothers(&self, credential: &Credential) -> Failure {
        let host = self.host_for(credential);
        let message = format!("{host} answered with a token of another account; nothing was stored");
        let error = Error::new(Code::IdentityMismatch, message);
        let class = self.class_of(FailureClass::Uncertain);
        // It would answer the same again.
        Failure { is_temporary: false, ..Failure::after(error, class, None) }
    }
}
