//! What is done to the cluster while clients work. Each fault lasts until the clients have got so much done in spite of it,
//! and ends with a cluster that is whole again.

use super::ground::Ground;
use super::load::{Book, Dice};
use crate::netns::Net;
use crate::process::wait_for;
use crate::small_disk::SmallDisk;
use rustix::process::Signal;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL of the leader, and its return.
    Kill,
    /// SIGSTOP of the leader until another one leads, then SIGCONT.
    Stop,
    /// Nothing reaches the leader and nothing comes from it.
    Cut,
    /// What the leader sends is lost; it hears the others.
    Mute,
    /// What is sent to the leader is lost; the others hear it.
    Deaf,
    /// The leader and one more on one side, the majority on the other.
    Split,
    /// The leader and one follower do not hear each other; all others hear both.
    Bridge,
    /// So many voters are wanted.
    Voters(usize),
    /// A follower loses its data folder, and comes back as somebody new; who it was is removed.
    Replace,
    /// SIGKILL of all nodes.
    KillAll,
    /// The leader's disk fills up, first nearly and then wholly, and is emptied again.
    FullDisk,
}

impl Fault {
    /// Whether it needs networks or disks of the nodes' own.
    pub(crate) const fn needs_root(self) -> bool {
        matches!(self, Self::Cut | Self::Mute | Self::Deaf | Self::Split | Self::Bridge | Self::FullDisk)
    }
}

/// Does it all, one fault after the other.
pub(crate) struct Nemesis<'a> {
    pub(crate) ground: &'a mut Ground,
    pub(crate) book: &'a Book,
    /// Voters that are wanted now.
    pub(crate) voters: usize,
    /// Operations that the clients must get done during each fault, and behind it.
    pub(crate) progress: usize,
    pub(crate) dice: Dice,
}

impl Nemesis<'_> {
    /// Carries a fault out, and heals it.
    pub(crate) fn carry_out(&mut self, fault: Fault) {
        let (at, done) = (self.book.at(), self.book.done());
        let all: Vec<usize> = (0..self.ground.len()).collect();
        let leader = self.ground.leader(&all, None);
        println!("{at:>10.1?} {done:>6} operations: {fault:?} (control-{} leads)", leader + 1);
        match fault {
            Fault::Kill => self.kill(leader),
            Fault::Stop => {
                self.ground.controls()[leader].halt();
                self.outlast(leader);
                self.ground.controls()[leader].signal(Signal::CONT);
            }
            Fault::Voters(voters) => {
                wait_for("the wanted number of voters", || {
                    self.ground.cli(leader).try_json(&["cluster", "voters", &voters.to_string()]).map(drop)
                });
                self.voters = voters;
                self.book.wait_more(self.progress);
            }
            Fault::Replace => self.replace(leader),
            Fault::KillAll => {
                self.ground.controls().iter_mut().for_each(|control| control.kill());
                self.ground.controls().iter_mut().for_each(|control| control.start(&[]));
            }
            Fault::FullDisk => self.fill_disk(),
            Fault::Cut | Fault::Mute | Fault::Deaf | Fault::Split | Fault::Bridge => self.cut(leader, fault),
        }
        self.ground.settle(self.voters);
        self.book.wait_more(self.progress);
    }

    /// Waits for another leader, and for operations under it.
    fn outlast(&self, leader: usize) {
        self.ground.leader(&self.ground.others(leader), Some(leader));
        self.book.wait_more(self.progress);
    }

    fn kill(&mut self, leader: usize) {
        self.ground.controls()[leader].kill();
        self.outlast(leader);
        self.ground.controls()[leader].start(&[]);
    }

    fn cut(&mut self, leader: usize, fault: Fault) {
        let friend = self.other(leader);
        let address = |node: usize| Net::address(u8::try_from(node + 1).unwrap());
        let (one, two) = (address(leader), address(friend));
        let rules = match fault {
            Fault::Mute => format!("ip saddr {one} drop"),
            Fault::Deaf => format!("ip daddr {one} drop"),
            Fault::Bridge => format!("ip saddr {one} ip daddr {two} drop\nip saddr {two} ip daddr {one} drop"),
            Fault::Split => {
                let pair = format!("{{ {one}, {two} }}");
                format!("ip saddr {pair} ip daddr != {pair} drop\nip saddr != {pair} ip daddr {pair} drop")
            }
            _ => format!("ip saddr {one} drop\nip daddr {one} drop"),
        };
        self.ground.net().expect("networks of their own").rules(&rules);
        match fault {
            // Whoever leads then, the majority goes on.
            Fault::Bridge => self.book.wait_more(self.progress),
            Fault::Split => {
                let rest: Vec<usize> = self.ground.others(leader).into_iter().filter(|node| *node != friend).collect();
                self.ground.leader(&rest, Some(leader));
                self.book.wait_more(self.progress);
            }
            _ => self.outlast(leader),
        }
        self.ground.net().expect("networks of their own").heal();
    }

    fn replace(&mut self, leader: usize) {
        let node = self.other(leader);
        let folder = self.ground.folder(node);
        let former = std::fs::read_to_string(folder.join("node-id")).unwrap().trim().to_owned();
        self.ground.controls()[node].kill();
        self.book.wait_more(self.progress);
        std::fs::remove_dir_all(&folder).unwrap();
        self.ground.controls()[node].start(&[]);
        self.ground.settle(self.voters);
        wait_for("the former node to go", || self.ground.cli(leader).try_json(&["node", "remove", &former]).map(drop));
    }

    /// All nodes get small disks, so that whoever leads then has one.
    fn fill_disk(&mut self) {
        let disks: Vec<SmallDisk> = (0..self.ground.len()).map(|node| self.move_in(node)).collect();
        let all: Vec<usize> = (0..self.ground.len()).collect();
        let leader = self.ground.leader(&all, None);
        println!("           control-{}'s disk fills up", leader + 1);
        disks[leader].fill_but(1 << 20);
        self.outlast(leader);
        disks[leader].fill_but(0);
        self.book.wait_more(self.progress);
        disks[leader].empty();
        self.ground.settle(self.voters);
        for (node, disk) in disks.into_iter().enumerate() {
            self.ground.controls()[node].kill();
            disk.move_out();
            self.ground.controls()[node].start(&[]);
            self.ground.settle(self.voters);
        }
    }

    fn move_in(&mut self, node: usize) -> SmallDisk {
        let folder = self.ground.folder(node);
        self.ground.controls()[node].kill();
        let disk = SmallDisk::under(&folder);
        self.ground.controls()[node].start(&[]);
        self.ground.settle(self.voters);
        disk
    }

    /// A node that does not lead.
    fn other(&mut self, leader: usize) -> usize {
        let others = self.ground.others(leader);
        others[self.dice.below(others.len())]
    }
}
