//! What an election authority and its trustees agree on: which tasks there are, what goes in, what
//! comes out. Both sides depend on this crate, and neither needs the other's handlers.
//!
//! It depends on frestq with `default-features = false`, so it compiles without a server, a database
//! and TLS. A peer that depends on it enables the features that it needs itself.

use std::{collections::BTreeMap, time::Duration};

use frestq::{PeerUrl, prelude::*};

/// Asks a trustee to generate its share of the election's key.
#[derive(Debug, Serialize, Deserialize, Action)]
#[action(queue = "keys", action = "generate", output = PublicKey)]
pub struct GenerateKey {
    /// The election.
    pub election: String,
    /// The length of the key in bits.
    pub bits: u32,
}

/// A trustee's public key, in hexadecimal.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey(pub String);

/// Asks a trustee to count the votes for each answer.
#[derive(Debug, Serialize, Deserialize, Action)]
#[action(queue = "results", action = "tally", output = BTreeMap<String, u64>)]
pub struct Tally {
    /// The election.
    pub election: String,
    /// The votes, one answer each.
    pub votes: Vec<String>,
}

/// A rehearsal of an election: all trustees generate their keys at the same time, then one of them
/// tallies votes that somebody has made up.
///
/// It is a value like any other. An authority sends it with `Frestq::send`, or adds it to a task.
pub fn rehearsal(trustees: &[PeerUrl], tallier: &PeerUrl, votes: Vec<String>) -> Sequential {
    let election = "rehearsal".to_owned();
    let mut keys = Parallel::new().label("keys");
    for trustee in trustees {
        let key = GenerateKey {
            election: election.clone(),
            bits: 2048,
        };
        keys = keys.add(key.to(trustee));
    }
    Sequential::new()
        .add(keys)
        .add(Tally { election, votes }.to(tallier))
        .expires_in(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use frestq::Compose as _;

    use super::*;

    #[test]
    fn the_contract_names_queue_action_and_output() {
        fn output_of<A: Action<Output = PublicKey>>(_: &A) {}
        let key = GenerateKey {
            election: "board".into(),
            bits: 2048,
        };
        output_of(&key);
        assert_eq!(
            (GenerateKey::QUEUE, GenerateKey::ACTION),
            ("keys", "generate")
        );
        assert_eq!((Tally::QUEUE, Tally::ACTION), ("results", "tally"));
    }

    #[test]
    fn a_tree_is_built_by_value() {
        let trustee: PeerUrl = "https://auth1.example.org:5000/api/queues".parse().unwrap();
        let tree = rehearsal(
            std::slice::from_ref(&trustee),
            &trustee,
            vec!["yes".to_owned()],
        );
        let tree = format!("{:?}", tree.into_node());
        assert!(
            tree.contains("generate") && tree.contains("tally"),
            "{tree}"
        );
    }
}
