//! One offer for several lanes: live content goes to all of them at the pace of the slowest, and has arrived when it has everywhere.

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::blob::Part;
use crate::source::{Live, Offer, Question};

/// Chunks that one lane may be ahead of another.
const WINDOW: usize = 4;

/// As many offers as there are lanes.
pub(super) fn split(offer: Offer, lanes: usize) -> Vec<Offer> {
    match offer {
        offer if lanes == 1 => vec![offer],
        Offer::Manifests(manifests) => (0..lanes).map(|_| Offer::Manifests(manifests.clone())).collect(),
        Offer::Blob(blob) => (0..lanes).map(|_| Offer::Blob(blob.clone())).collect(),
        Offer::Question(question) => ask_all(*question, lanes),
        Offer::Live(live) => send_all(live, lanes),
    }
}

fn ask_all(question: Question, lanes: usize) -> Vec<Offer> {
    let Question { label, descriptor, answer } = question;
    let (answers, questions): (Vec<_>, Vec<_>) = (0..lanes)
        .map(|_| {
            let (answer, answered) = oneshot::channel();
            let (label, descriptor) = (label.clone(), descriptor.clone());
            (answered, Offer::Question(Box::new(Question { label, descriptor, answer })))
        })
        .unzip();
    tokio::spawn(async move {
        let _ = answer.send(all(answers).await);
    });
    questions
}

fn send_all(live: Live, lanes: usize) -> Vec<Offer> {
    let Live { label, mut parts, taken } = live;
    let (mut ways, mut answers, mut offers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..lanes {
        let (way, parts) = mpsc::channel(WINDOW);
        let (taken, answer) = oneshot::channel();
        ways.push(way);
        answers.push(answer);
        offers.push(Offer::Live(Live { label: label.clone(), parts, taken }));
    }
    tokio::spawn(async move {
        while let Some(part) = parts.recv().await {
            let sends = ways.iter().map(|way| way.send(part.clone()));
            let sent: Vec<bool> = join_all(sends).await.iter().map(Result::is_ok).collect();
            let mut sent = sent.into_iter();
            // A lane that takes no more wants it again, or has ended.
            ways.retain(|_| sent.next().unwrap_or(false));
            if ways.is_empty() || matches!(part, Part::End(_)) {
                break;
            }
        }
        drop((parts, ways));
        let _ = taken.send(all(answers).await);
    });
    offers
}

/// A lane that ended needs nothing any more.
async fn all(answers: Vec<oneshot::Receiver<bool>>) -> bool {
    join_all(answers).await.into_iter().all(|answer| answer.unwrap_or(true))
}
