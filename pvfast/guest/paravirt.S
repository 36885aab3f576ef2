/*
 * The probe of last resort, registered last because this file is linked last.
 *
 * If no hypervisor was recognised the kernel behaves as on bare hardware, whatever ring it is in. The table
 * paravirt_ops follows from Python: its order is pvfast/paravirt/operations.py, and every pointer starts as
 * native_<operation>.
 */

	paravirt_probe start_kernel
