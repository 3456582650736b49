//! The attack suite on the project's own services, with all that they need.

use nats_rpc::testing::AttackSuite;
use serde_json::json;

use super::Bed;

#[tokio::test]
async fn auth_and_users_withstand_all_attacks() {
    let bed = Bed::start().await;
    let user = bed.sign_up("attacked@example.com").await;
    for subject in ["get_user_profile", "auth.sessions"] {
        let suite = AttackSuite::new(subject, &json!({})).unwrap().bearer(&user.access_token);
        suite.run_on(&bed.server.url()).await.unwrap().assert_clean();
    }
    // A log-out can be repeated: it replies the same to a token that was used up.
    let suite = AttackSuite::new("auth.logout", &json!({ "refreshToken": user.refresh_token })).unwrap();
    suite.run_on(&bed.server.url()).await.unwrap().assert_clean();
}
