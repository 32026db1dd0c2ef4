//! Machine ids: a container has one of its own, and a new one each time (machine-id(5)).

/// A random machine id.
pub fn random() -> rustix::io::Result<u128> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u128::from_ne_bytes(bytes))
}
