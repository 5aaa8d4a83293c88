//! The SDK's clients, configured once: the whole chain of credentials, one retry policy, time limits, and a watcher that tells people when the API makes them wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_ec2::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_ec2::config::{
    ConfigBag, Intercept, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient, SharedInterceptor,
};
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::operation::run_instances::RunInstancesError;
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::{Metadata, OrchestratorError};
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::error::display::DisplayErrorContext;

use tokio_util::sync::CancellationToken;

use crate::core::ec2::cure;
use crate::model::ec2::Ec2Spec;
use crate::model::event::Events;
use crate::world::cloud::CloudError;

/// So many tries bear a minute of throttling: the waits in between are random up to their limit, so that fewer, with bad
/// luck, would be over in half of that.
const ATTEMPTS: u32 = 20;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(30);
/// All tries of one call together.
const CALL: Duration = Duration::from_secs(300);
/// A network without a way to SSM must not hold up a command for long: it goes on without a lease.
const LEASE_ATTEMPTS: u32 = 3;
const LEASE_CALL: Duration = Duration::from_secs(12);

/// One client a service, all over one connection pool and one watcher.
pub struct Clients {
    pub autoscaling: aws_sdk_autoscaling::Client,
    pub ec2: aws_sdk_ec2::Client,
    pub iam: aws_sdk_iam::Client,
    pub ssm: aws_sdk_ssm::Client,
    /// The same service for the lease, which is given back after an interrupt too.
    pub leases: aws_sdk_ssm::Client,
    pub sts: aws_sdk_sts::Client,
    pub quotas: aws_sdk_servicequotas::Client,
    pub region: String,
    pub watcher: Watcher,
    config: SdkConfig,
}

impl Clients {
    /// Finds the region and the credentials' source; no service is asked yet.
    pub async fn open(spec: &Ec2Spec, events: &Events, cancel: &CancellationToken) -> Result<Self, CloudError> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client())
            .retry_config(retries())
            .timeout_config(time_limits())
            .app_name(
                aws_config::AppName::new(concat!("clusterctl-", env!("CARGO_PKG_VERSION"))).expect("a valid name"),
            );
        if let Some(profile) = &spec.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &spec.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let mut config = loader.load().await;
        if let Some(profile) = &spec.profile {
            config = of_profile(&config, profile);
        }
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(CloudError::Unfit {
                missing: "no AWS region is named".to_owned(),
                cure: "set `region` in [ec2], AWS_REGION, or `region` in the profile of ~/.aws/config".to_owned(),
            });
        };
        Ok(Self::of(&config, region, events, cancel))
    }

    pub fn of(config: &SdkConfig, region: String, events: &Events, cancel: &CancellationToken) -> Self {
        let watcher = Watcher { events: events.clone(), cancel: cancel.clone(), seen: Arc::default() };
        let watch = || SharedInterceptor::new(watcher.clone());
        Self {
            autoscaling: aws_sdk_autoscaling::Client::from_conf(
                aws_sdk_autoscaling::config::Builder::from(config).interceptor(watch()).build(),
            ),
            ec2: ec2(config, watcher.clone()),
            iam: aws_sdk_iam::Client::from_conf(
                aws_sdk_iam::config::Builder::from(config).interceptor(watch()).build(),
            ),
            ssm: aws_sdk_ssm::Client::from_conf(
                aws_sdk_ssm::config::Builder::from(config).interceptor(watch()).build(),
            ),
            leases: aws_sdk_ssm::Client::from_conf(
                aws_sdk_ssm::config::Builder::from(config)
                    .retry_config(RetryConfig::standard().with_max_attempts(LEASE_ATTEMPTS))
                    .timeout_config(
                        TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(LEASE_CALL).build(),
                    )
                    .build(),
            ),
            sts: aws_sdk_sts::Client::from_conf(
                aws_sdk_sts::config::Builder::from(config).interceptor(watch()).build(),
            ),
            quotas: aws_sdk_servicequotas::Client::from_conf(
                aws_sdk_servicequotas::config::Builder::from(config).interceptor(watch()).build(),
            ),
            region,
            watcher,
            config: config.clone(),
        }
    }

    /// EC2 of another region; or of this one, under another `cancel`: what is half-made is taken away after an
    /// interrupt too.
    pub fn ec2_in(&self, region: &str, cancel: &CancellationToken) -> aws_sdk_ec2::Client {
        let config = self.config.to_builder().region(Region::new(region.to_owned())).build();
        ec2(&config, Watcher { cancel: cancel.clone(), ..self.watcher.clone() })
    }
}

fn ec2(config: &SdkConfig, watcher: Watcher) -> aws_sdk_ec2::Client {
    let config = aws_sdk_ec2::config::Builder::from(config).interceptor(SharedInterceptor::new(watcher));
    aws_sdk_ec2::Client::from_conf(config.retry_classifier(NoRoom).retry_partition(persistent()).build())
}

/// The configuration with the named profile's credentials first. The SDK's chain asks the environment before it, so
/// that keys left there would act on another account than the one that was named; AWS' own tools do as here. A profile
/// that holds no credentials leaves the rest of the chain.
fn of_profile(config: &SdkConfig, profile: &str) -> SdkConfig {
    let http = ProviderConfig::without_region().with_region(config.region().cloned()).with_http_client(http_client());
    let named = ProfileFileCredentialsProvider::builder().configure(&http).profile_name(profile).build();
    let mut chain = CredentialsProviderChain::first_try("NamedProfile", named);
    if let Some(rest) = config.credentials_provider() {
        chain = chain.or_else("Default", rest);
    }
    config.to_builder().credentials_provider(SharedCredentialsProvider::new(chain)).build()
}

/// TLS by rustls, with the roots that the machine trusts, through the proxy that the environment names.
fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = aws_smithy_http_client::Connector::builder()
            .proxy_config(aws_smithy_http_client::proxy::ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        if let Some(settings) = settings {
            connector = connector.connector_settings(settings.clone());
        }
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}

/// Not the SDK's adaptive mode: each of its retries costs five tokens of a bucket that fills with half a token a
/// second, and the debt outlives the throttling. Eight calls that were throttled for 30 s kept it silent for another
/// 130 s after EC2 answered again. How many calls are made at once is bounded where they are made.
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_WAIT).with_max_backoff(LONGEST_WAIT)
}

/// All calls of a run share one budget of retries by default, which a hundred hosts use up in one bad minute. Each call
/// has its own limits of tries and of time.
fn persistent() -> RetryPartition {
    RetryPartition::custom("clusterctl").token_bucket(TokenBucket::unlimited()).build()
}

fn time_limits() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).operation_timeout(CALL).build()
}

/// EC2 says with a server's error that a zone has no room. Asking the same zone again for a minute is no use while
/// the next one may have some.
#[derive(Debug)]
struct NoRoom;

impl ClassifyRetry for NoRoom {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(Result::err).and_then(OrchestratorError::as_operation_error);
        let code = error.and_then(|error| error.downcast_ref::<RunInstancesError>()).and_then(|error| error.code());
        match code {
            Some(code) if cure::is_elsewhere(code) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "no room"
    }
}

/// Sees every attempt of every call. What it logs are names, codes and times: never a header, a parameter or
/// a body.
#[derive(Debug, Clone)]
pub struct Watcher {
    events: Events,
    cancel: CancellationToken,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When the API said so last, by its own clock.
    date: Option<String>,
    /// The calls under way that were warned about, so that each is told once.
    warned: std::collections::BTreeSet<String>,
}

impl Watcher {
    /// The `Date` of the last response.
    pub fn date(&self) -> Option<String> {
        self.seen().date.clone()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Watcher {
    fn name(&self) -> &'static str {
        "clusterctl-watcher"
    }

    /// After an interrupt nothing more is asked, nor asked again.
    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), aws_sdk_ec2::error::BoxError> {
        if self.cancel.is_cancelled() { Err(Box::new(Interrupted)) } else { Ok(()) }
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), aws_sdk_ec2::error::BoxError> {
        let call = match config.load::<Metadata>() {
            Some(metadata) => format!("{} {}", metadata.service(), metadata.name()),
            None => "a call".to_owned(),
        };
        let status = context.response().map(|response| response.status().as_u16());
        let date = context.response().and_then(|response| response.headers().get("date")).map(str::to_owned);
        let mut seen = self.seen();
        seen.date = date.or(seen.date.take());
        let error = context.output_or_error().and_then(Result::err);
        let sent = error.is_none_or(|error| error.is_connector_error() || error.is_timeout_error());
        let again = match status {
            Some(503 | 429) => Some("is throttled"),
            Some(500..) => Some("failed on AWS' side"),
            // Without credentials nothing was sent that could be answered.
            None if sent => Some("got no answer"),
            _ => None,
        };
        tracing::debug!(call, status, "attempt");
        match again {
            Some(why) if seen.warned.insert(call.clone()) => {
                self.events.warn(None, format!("{call} {why}: trying again, for up to {} s", CALL.as_secs()));
            }
            Some(_) => {}
            None => drop(seen.warned.remove(&call)),
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the run was interrupted")]
struct Interrupted;

fn is_interrupt(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<Interrupted>() || error.source().is_some_and(is_interrupt)
}

/// The error of one call. `action` is what IAM calls it: `ec2:RunInstances`.
pub fn refused<E, R>(action: &'static str, error: aws_sdk_ec2::error::SdkError<E, R>) -> CloudError
where
    E: aws_sdk_ec2::error::ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    use aws_sdk_ec2::error::SdkError;
    if is_interrupt(&error) {
        return CloudError::Cancelled;
    }
    let (service, operation) = action.split_once(':').unwrap_or(("", action));
    let (code, message) = match &error {
        SdkError::ServiceError(context) => {
            let code = context.err().code().map(str::to_owned);
            let said = context.err().message().map(str::to_owned);
            let message = match (&code, said) {
                (Some(code), said) => format!("{code}: {}", said.as_deref().unwrap_or("it said no more")),
                (None, Some(said)) => said,
                // Not what the service answers: a proxy's page, or a body that cannot be read.
                (None, None) => format!("the answer is not understood: {}", DisplayErrorContext(context.err())),
            };
            (code, message)
        }
        SdkError::TimeoutError(_) => (None, format!("no answer within {} s", CALL.as_secs())),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error().and_then(|e| without_credentials(e)) {
            Some(message) => {
                let cure = "name a profile that has them (`--profile`, `profile` in [ec2]; `aws sso login` for one of SSO), or \
                            set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sts get-caller-identity` tells whether they do";
                return CloudError::Api { action, code: None, message, cure: Some(cure.to_owned()) };
            }
            None => (None, dispatch(failure)),
        },
        // An answer that is none: a proxy's page, a half-sent body.
        other => (None, format!("{}", DisplayErrorContext(other))),
    };
    let cure = match &code {
        Some(code) => cure::cure(service, operation, code, &message),
        None => Some(
            "is the network up, and is the endpoint right (region, AWS_ENDPOINT_URL, proxy)? Running the command again \
             is safe"
                .to_owned(),
        ),
    };
    CloudError::Api { action, code, message, cure }
}

/// What is wrong with the credentials, where a call failed for want of them.
fn without_credentials(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.iter().any(|cause| cause.contains("credential") || cause.contains("ProfileFile provider")).then(|| {
        let said = causes.iter().find(|cause| cause.contains(": ")).or(causes.last()).cloned().unwrap_or_default();
        format!("no credentials: {said}")
    })
}

fn dispatch(failure: &aws_smithy_runtime_api::client::result::DispatchFailure) -> String {
    let cause = failure.as_connector_error().map_or_else(
        || "the request could not be sent".to_owned(),
        |error| {
            let mut text = error.to_string();
            let mut next = std::error::Error::source(error);
            while let Some(cause) = next {
                text = cause.to_string();
                next = cause.source();
            }
            text
        },
    );
    format!("cannot reach AWS: {cause}")
}

/// The code that the API gave, if it gave one.
pub fn code<E, R>(error: &aws_sdk_ec2::error::SdkError<E, R>) -> Option<&str>
where
    E: aws_sdk_ec2::error::ProvideErrorMetadata,
{
    error.as_service_error().and_then(aws_sdk_ec2::error::ProvideErrorMetadata::code)
}
