//! Registered peers that answer with what no honest server does.

use std::net::TcpListener;

use serde_json::json;

use super::Siege;
use crate::harness::{Fake, Reply, free_port, until};

on_each_store! {
    async fn a_redirect_leads_nowhere(store) {
        // Whoever follows one connects here.
        let trap = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        trap.set_nonblocking(true).unwrap();
        let trapped = trap.local_addr().unwrap();
        let fake = Fake::answering(move |n, _| {
            let location = match n % 3 {
                0 => format!("http://{trapped}/latest/meta-data/"),
                1 => format!("https://{trapped}/latest/meta-data/"),
                _ => "http://169.254.169.254/latest/meta-data/".to_owned(),
            };
            match [301, 302, 303, 307, 308, 300].get(n / 3) {
                Some(status) => Reply::Says(*status, format!("location: {location}\r\n"), String::new()),
                None => Reply::ok(),
            }
        });
        let (siege, server) = Siege::with(&store, &[], fake.await).await;
        let b = &siege.b;
        let mut tasks = Vec::new();
        for n in 0..18 {
            tasks.push(b.send(&siege.c_url, "work", "echo", json!(n)).await);
        }
        server.sees(18).await;
        // Each is sent again to where it was to go, and nowhere else.
        for task in &tasks {
            b.reaches(task, "sent").await;
        }
        assert_eq!(trap.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        siege.holds().await;
        // The trap works.
        let _victim = std::net::TcpStream::connect(trapped).unwrap();
        until("somebody is in the trap", async || trap.accept().is_ok()).await;
    }

    async fn of_an_endless_answer_only_the_beginning_is_read(store) {
        let fake = Fake::answering(|_, _| Reply::Pours(10_000_000_000)).await;
        let (siege, server) = Siege::with(&store, &[], fake).await;
        let b = &siege.b;
        for n in 0..5 {
            let task = b.send(&siege.c_url, "work", "echo", json!(n)).await;
            // 200 is 200, whatever comes after it.
            b.reaches(&task, "sent").await;
        }
        // What lies in the sockets of five connections counts too.
        let poured = server.poured();
        assert!((1..100_000_000).contains(&poured), "{poured} bytes");
        siege.holds().await;
    }

    async fn an_answer_with_too_many_or_too_long_headers_is_no_answer(store) {
        let fake = Fake::answering(|n, _| match n {
            0 | 2 => Reply::Says(200, (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect(), String::new()),
            1 | 3 => Reply::Says(200, format!("x: {}\r\n", "y".repeat(20_000_000)), String::new()),
            _ => Reply::ok(),
        });
        let (siege, server) = Siege::with(&store, &[], fake.await).await;
        let b = &siege.b;
        let task = b.send(&siege.c_url, "work", "echo", json!(1)).await;
        server.sees(1).await;
        // It goes on without holding up A, until the other side comes to its senses.
        siege.serves_a().await;
        server.sees(3).await;
        siege.holds().await;
        assert_eq!(b.task(&task).await["status"], "created");
    }
}
