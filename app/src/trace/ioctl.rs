//! KVM ioctls by command.

/// The name of a command (include/uapi/linux/kvm.h), without `KVM_`.
pub fn name(command: u32) -> Option<&'static str> {
    let name = match command {
        0xae00 => "GET_API_VERSION",
        0xae01 => "CREATE_VM",
        0xae03 => "CHECK_EXTENSION",
        0xae04 => "GET_VCPU_MMAP_SIZE",
        0xae41 => "CREATE_VCPU",
        0x4010_ae42 => "GET_DIRTY_LOG",
        0x4020_ae46 => "SET_USER_MEMORY_REGION",
        0x40a0_ae49 => "SET_USER_MEMORY_REGION2",
        0x4008_ae61 => "IRQ_LINE",
        0xc008_ae67 => "IRQ_LINE_STATUS",
        0x4008_ae6a => "SET_GSI_ROUTING",
        0x4020_ae76 => "IRQFD",
        0x4040_ae79 => "IOEVENTFD",
        0xae80 => "RUN",
        0x8090_ae81 => "GET_REGS",
        0x4090_ae82 => "SET_REGS",
        0x4020_aea5 => "SIGNAL_MSI",
        0xc008_ae88 => "GET_MSRS",
        0x4008_ae89 => "SET_MSRS",
        _ => return None,
    };
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown() {
        assert_eq!(name(0xae80), Some("RUN"));
        assert_eq!(name(0x4020_ae46), Some("SET_USER_MEMORY_REGION"));
        assert_eq!(name(0xae99), None);
    }
}
