/**
 * An error of the command line's own.
 *
 * @param {string} code
 * @param {string} message
 * @param {object} [refreshFailure] of one that keeps a refresh function from asking
 */
export const refusal = (code, message, refreshFailure) =>
  Object.assign(new Error(message), { code, ...(refreshFailure && { refreshFailure }) });
