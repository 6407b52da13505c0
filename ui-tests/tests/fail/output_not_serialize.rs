struct Tally(u64);

#[frestq::task(queue = "election", action = "tally")]
async fn tally(votes: Vec<u64>) -> anyhow::Result<Tally> {
    Ok(Tally(votes.iter().sum()))
}

#[frestq::task(queue = "election", action = "tallies")]
async fn tallies(_votes: Vec<u64>) -> Result<Vec<Tally>, frestq::Error> {
    Ok(vec![])
}

fn main() {}
