//! A very small assembler: the instructions the guest needs, for 32-bit protected mode.
//!
//! Each method appends one instruction; its comment gives the encoding as in the manuals
//! (Intel SDM volume 2). `[ebp+d]` operands take a displacement of 8 bits where that is enough, else of 32.

/// A place in the program that jumps can name before it is known.
#[derive(Clone, Copy, Debug)]
pub struct Label(usize);

/// A program under construction.
#[derive(Debug, Default)]
pub struct Asm {
    code: Vec<u8>,
    labels: Vec<Option<usize>>,
    /// Where a 32-bit displacement waits for a label.
    holes: Vec<(usize, Label)>,
}

/// An instruction named a label that was never placed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest program jumps to a label that has no place")]
pub struct UnplacedLabel;

impl Asm {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label to be placed later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places `label` here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// The machine code, with every jump filled in.
    ///
    /// # Errors
    /// When a jump names a label that was never placed.
    pub fn finish(mut self) -> Result<Vec<u8>, UnplacedLabel> {
        for (hole, label) in std::mem::take(&mut self.holes) {
            let target = self.labels[label.0].ok_or(UnplacedLabel)?;
            // Displacements count from the end of the instruction, which is the hole's end.
            let distance = target as i64 - (hole as i64 + 4);
            self.code[hole..hole + 4].copy_from_slice(&(distance as i32).to_le_bytes());
        }
        Ok(self.code)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    fn with_imm32(&mut self, opcode: &[u8], value: u32) {
        self.bytes(opcode);
        self.bytes(&value.to_le_bytes());
    }

    /// `opcode` with ModRM for register (or extension) `reg` and `[ebp+d]`.
    fn with_var(&mut self, opcode: u8, reg: u8, d: i32) {
        match i8::try_from(d) {
            Ok(near) => self.bytes(&[opcode, 0x45 | reg << 3, near as u8]),
            Err(_) => self.with_imm32(&[opcode, 0x85 | reg << 3], d as u32),
        }
    }

    fn jump(&mut self, opcode: &[u8], label: Label) {
        self.bytes(opcode);
        self.holes.push((self.code.len(), label));
        self.bytes(&[0; 4]);
    }

    /// `jmp label`: E9 cd.
    pub fn jmp(&mut self, label: Label) {
        self.jump(&[0xe9], label);
    }

    /// `je label`: 0F 84 cd.
    pub fn je(&mut self, label: Label) {
        self.jump(&[0x0f, 0x84], label);
    }

    /// `jb label`: 0F 82 cd.
    pub fn jb(&mut self, label: Label) {
        self.jump(&[0x0f, 0x82], label);
    }

    /// `jae label`: 0F 83 cd.
    pub fn jae(&mut self, label: Label) {
        self.jump(&[0x0f, 0x83], label);
    }

    /// `mov ecx, dword [ebp+d]`: 8B /r.
    pub fn mov_ecx_var(&mut self, d: i32) {
        self.with_var(0x8b, 1, d);
    }

    /// `mov edx, dword [ebp+d]`: 8B /r.
    pub fn mov_edx_var(&mut self, d: i32) {
        self.with_var(0x8b, 2, d);
    }

    /// `mov ecx, eax`: 89 C1.
    pub fn mov_ecx_eax(&mut self) {
        self.bytes(&[0x89, 0xc1]);
    }

    /// `mov edi, eax`: 89 C7.
    pub fn mov_edi_eax(&mut self) {
        self.bytes(&[0x89, 0xc7]);
    }

    /// `mov ecx, edi`: 89 F9.
    pub fn mov_ecx_edi(&mut self) {
        self.bytes(&[0x89, 0xf9]);
    }

    /// `mov eax, edi`: 89 F8.
    pub fn mov_eax_edi(&mut self) {
        self.bytes(&[0x89, 0xf8]);
    }

    /// `sub eax, ecx`: 29 C8.
    pub fn sub_eax_ecx(&mut self) {
        self.bytes(&[0x29, 0xc8]);
    }

    /// `add qword [ebp+d], edx:eax`, in two steps: 01 /r, 11 /r (ADC).
    pub fn add_var64(&mut self, d: i32) {
        self.with_var(0x01, 0, d);
        self.with_var(0x11, 2, d + 4);
    }

    /// `sub qword [ebp+d], edx:eax`, in two steps: 29 /r, 19 /r (SBB).
    pub fn sub_var64(&mut self, d: i32) {
        self.with_var(0x29, 0, d);
        self.with_var(0x19, 2, d + 4);
    }

    /// `pause`: F3 90.
    pub fn pause(&mut self) {
        self.bytes(&[0xf3, 0x90]);
    }

    /// `sti`: FB.
    pub fn sti(&mut self) {
        self.bytes(&[0xfb]);
    }

    /// `cli`: FA.
    pub fn cli(&mut self) {
        self.bytes(&[0xfa]);
    }

    /// `jmp` to itself: EB FE, [`Asm::FOREVER`] bytes. Whoever wants it to end moves EIP past it.
    pub fn forever(&mut self) {
        self.bytes(&[0xeb, 0xfe]);
    }

    /// Bytes of [`Asm::forever`].
    pub const FOREVER: u64 = 2;

    /// How far the program is, in bytes.
    pub fn here(&self) -> u64 {
        self.code.len() as u64
    }

    /// `mov eax, imm32`: B8 id.
    pub fn mov_eax(&mut self, value: u32) {
        self.with_imm32(&[0xb8], value);
    }

    /// `mov edx, imm32`: BA id.
    pub fn mov_edx(&mut self, value: u32) {
        self.with_imm32(&[0xba], value);
    }

    /// `xor eax, eax`: 31 C0.
    pub fn zero_eax(&mut self) {
        self.bytes(&[0x31, 0xc0]);
    }

    /// `xor ecx, ecx`: 31 C9.
    pub fn zero_ecx(&mut self) {
        self.bytes(&[0x31, 0xc9]);
    }

    /// `xor edx, edx`: 31 D2.
    pub fn zero_edx(&mut self) {
        self.bytes(&[0x31, 0xd2]);
    }

    /// `mov ebx, eax`: 89 C3.
    pub fn mov_ebx_eax(&mut self) {
        self.bytes(&[0x89, 0xc3]);
    }

    /// `sub eax, ebx`: 29 D8.
    pub fn sub_eax_ebx(&mut self) {
        self.bytes(&[0x29, 0xd8]);
    }

    /// `mov ebx, imm32`: BB id.
    pub fn mov_ebx(&mut self, value: u32) {
        self.with_imm32(&[0xbb], value);
    }

    /// `mov ecx, imm32`: B9 id.
    pub fn mov_ecx(&mut self, value: u32) {
        self.with_imm32(&[0xb9], value);
    }

    /// `mov esi, imm32`: BE id.
    pub fn mov_esi(&mut self, value: u32) {
        self.with_imm32(&[0xbe], value);
    }

    /// `mov edi, imm32`: BF id.
    pub fn mov_edi(&mut self, value: u32) {
        self.with_imm32(&[0xbf], value);
    }

    /// `mov esi, dword [ebp+d]`: 8B /r.
    pub fn mov_esi_var(&mut self, d: i32) {
        self.with_var(0x8b, 6, d);
    }

    /// `add edi, imm32`: 81 /0 id.
    pub fn add_edi(&mut self, value: u32) {
        self.with_imm32(&[0x81, 0xc7], value);
    }

    /// `cmp dword [ebp+d], 0`: 83 /7 ib.
    pub fn cmp_var_zero(&mut self, d: i32) {
        self.with_var(0x83, 7, d);
        self.bytes(&[0]);
    }

    /// `cmp eax, dword [ebp+d]`: 3B /r.
    pub fn cmp_eax_var(&mut self, d: i32) {
        self.with_var(0x3b, 0, d);
    }

    /// `inc dword [ebp+d]`: FF /0.
    pub fn inc_var(&mut self, d: i32) {
        self.with_var(0xff, 0, d);
    }

    /// `dec dword [ebp+d]`: FF /1.
    pub fn dec_var(&mut self, d: i32) {
        self.with_var(0xff, 1, d);
    }

    /// `mov dword [ebp+d], imm32`: C7 /0 id.
    pub fn mov_var(&mut self, d: i32, value: u32) {
        self.with_var(0xc7, 0, d);
        self.bytes(&value.to_le_bytes());
    }

    /// `mov edi, dword [ebp+d]`: 8B /r.
    pub fn mov_edi_var(&mut self, d: i32) {
        self.with_var(0x8b, 7, d);
    }

    /// `mov dword [ebp+d], edi`: 89 /r.
    pub fn mov_var_edi(&mut self, d: i32) {
        self.with_var(0x89, 7, d);
    }

    /// `mov dword [edi], eax`: 89 /r.
    pub fn store_at_edi(&mut self) {
        self.bytes(&[0x89, 0x07]);
    }

    /// `mov eax, dword [edi]`: 8B /r.
    pub fn load_at_edi(&mut self) {
        self.bytes(&[0x8b, 0x07]);
    }

    /// `lea ebx, [ebp+d]`: 8D /r.
    pub fn lea_ebx(&mut self, d: i32) {
        self.with_imm32(&[0x8d, 0x9d], d as u32);
    }

    /// `jmp edi`: FF /4.
    pub fn jmp_edi(&mut self) {
        self.bytes(&[0xff, 0xe7]);
    }

    /// `jmp ebx`, which is all that a page holds that is executed: FF /4.
    pub const JMP_EBX: [u8; 2] = [0xff, 0xe3];

    /// `mov eax, dword [esi]`: 8B /r.
    pub fn load_at_esi(&mut self) {
        self.bytes(&[0x8b, 0x06]);
    }

    /// `mov dword [esi], eax`: 89 /r.
    pub fn store_at_esi(&mut self) {
        self.bytes(&[0x89, 0x06]);
    }

    /// `out dx, al`: EE.
    pub fn out_dx_al(&mut self) {
        self.bytes(&[0xee]);
    }

    /// `in al, dx`: EC.
    pub fn in_al_dx(&mut self) {
        self.bytes(&[0xec]);
    }

    /// `cpuid`: 0F A2.
    pub fn cpuid(&mut self) {
        self.bytes(&[0x0f, 0xa2]);
    }

    /// `rdmsr`: 0F 32.
    pub fn rdmsr(&mut self) {
        self.bytes(&[0x0f, 0x32]);
    }

    /// `wrmsr`: 0F 30.
    pub fn wrmsr(&mut self) {
        self.bytes(&[0x0f, 0x30]);
    }

    /// `rdtsc`: 0F 31.
    pub fn rdtsc(&mut self) {
        self.bytes(&[0x0f, 0x31]);
    }

    /// `vmcall` (Intel): 0F 01 C1.
    pub fn vmcall(&mut self) {
        self.bytes(&[0x0f, 0x01, 0xc1]);
    }

    /// `vmmcall` (AMD): 0F 01 D9.
    pub fn vmmcall(&mut self) {
        self.bytes(&[0x0f, 0x01, 0xd9]);
    }

    /// `ud2`: 0F 0B.
    pub fn ud2(&mut self) {
        self.bytes(&[0x0f, 0x0b]);
    }

    /// `nop`: 90.
    pub fn nop(&mut self) {
        self.bytes(&[0x90]);
    }

    /// `push eax`, `push ecx`, `push edx`: 50, 51, 52.
    pub fn push_eax_ecx_edx(&mut self) {
        self.bytes(&[0x50, 0x51, 0x52]);
    }

    /// `pop edx`, `pop ecx`, `pop eax`: 5A, 59, 58.
    pub fn pop_edx_ecx_eax(&mut self) {
        self.bytes(&[0x5a, 0x59, 0x58]);
    }

    /// `add esp, 4`: 83 /0 ib.
    pub fn drop_one(&mut self) {
        self.bytes(&[0x83, 0xc4, 4]);
    }

    /// `add dword [esp], imm8`: 83 /0 ib.
    pub fn add_to_top(&mut self, value: u8) {
        self.bytes(&[0x83, 0x04, 0x24, value]);
    }

    /// What IRETD does within a ring: `push dword [esp+8]`, `popfd`, `ret 8` (FF /6, 9D, C2 iw). KVM's emulator,
    /// which runs the guest where there is no hardware for it, has no IRETD in protected mode.
    pub fn end_handler(&mut self) {
        self.bytes(&[0xff, 0x74, 0x24, 8, 0x9d, 0xc2, 8, 0]);
    }

    /// `mov eax, dword [ebp+d]`: 8B /r.
    pub fn mov_eax_var(&mut self, d: i32) {
        self.with_var(0x8b, 0, d);
    }

    /// `add eax, dword [ebp+d]`: 03 /r.
    pub fn add_eax_var(&mut self, d: i32) {
        self.with_var(0x03, 0, d);
    }

    /// `adc edx, imm8`: 83 /2 ib.
    pub fn adc_edx(&mut self, value: u8) {
        self.bytes(&[0x83, 0xd2, value]);
    }

    /// `hlt`: F4.
    pub fn hlt(&mut self) {
        self.bytes(&[0xf4]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(write: impl FnOnce(&mut Asm)) -> Vec<u8> {
        let mut asm = Asm::new();
        write(&mut asm);
        asm.finish().expect("every label is placed")
    }

    #[test]
    fn instructions_are_encoded_as_in_the_manual() {
        assert_eq!(assembled(|a| a.mov_edx(0x3f8)), [0xba, 0xf8, 0x03, 0, 0]);
        assert_eq!(assembled(|a| a.cmp_var_zero(0x10)), [0x83, 0x7d, 0x10, 0]);
        assert_eq!(assembled(|a| a.inc_var(-4)), [0xff, 0x45, 0xfc]);
        assert_eq!(assembled(|a| a.mov_var(4, 1)), [0xc7, 0x45, 4, 1, 0, 0, 0]);
        assert_eq!(assembled(|a| a.add_edi(0x8000)), [0x81, 0xc7, 0, 0x80, 0, 0]);
        assert_eq!(assembled(|a| a.mov_edx_var(-8)), [0x8b, 0x55, 0xf8]);
        assert_eq!(assembled(|a| a.add_var64(8)), [0x01, 0x45, 8, 0x11, 0x55, 12]);
        assert_eq!(assembled(|a| a.sub_var64(-8)), [0x29, 0x45, 0xf8, 0x19, 0x55, 0xfc]);
        assert_eq!(assembled(|a| a.mov_esi_var(127)), [0x8b, 0x75, 0x7f]);
        assert_eq!(assembled(|a| a.mov_esi_var(128)), [0x8b, 0xb5, 128, 0, 0, 0]);
        assert_eq!(assembled(|a| a.dec_var(-129)), [0xff, 0x8d, 0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(assembled(|a| a.mov_ebx(7)), [0xbb, 7, 0, 0, 0]);
        assert_eq!(assembled(|a| a.add_eax_var(8)), [0x03, 0x45, 8]);
        assert_eq!(assembled(|a| a.add_to_top(2)), [0x83, 0x04, 0x24, 2]);
        assert_eq!(assembled(|a| a.lea_ebx(-1)), [0x8d, 0x9d, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(assembled(Asm::forever).len() as u64, Asm::FOREVER);
    }

    #[test]
    fn jumps_forward_and_back_reach_their_label() {
        let code = assembled(|a| {
            let (start, end) = (a.label(), a.label());
            a.place(start);
            a.je(end); // 0: six bytes, to 11
            a.jmp(start); // 6: five bytes, to 0
            a.place(end);
            a.hlt(); // 11
        });
        assert_eq!(code, [0x0f, 0x84, 5, 0, 0, 0, 0xe9, 0xf5, 0xff, 0xff, 0xff, 0xf4]);
    }

    #[test]
    fn a_label_without_a_place_is_refused() {
        let mut asm = Asm::new();
        let nowhere = asm.label();
        asm.jmp(nowhere);
        assert_eq!(asm.finish(), Err(UnplacedLabel));
    }
}
